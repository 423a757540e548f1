//! Questions about sockets.

use std::fs;

use super::{Answer, failed};

/// Something listens on this port, on any address.
pub fn listening(protocol: &str, port: u16) -> Result<Answer, String> {
    // States of `include/net/tcp_states.h`: a TCP socket that listens, a UDP socket without peer.
    let state = match protocol {
        "tcp" => "0A",
        "udp" => "07",
        other => return Err(format!("the probe does not know the protocol `{other}`")),
    };
    let mut found = Vec::new();
    for family in ["", "6"] {
        let path = format!("/proc/net/{protocol}{family}");
        match fs::read_to_string(&path) {
            Ok(table) => found.extend(ports(&table, state)),
            // A kernel without IPv6 has no table for it.
            Err(_) if family == "6" => {}
            Err(error) => return Err(failed(path)(error)),
        }
    }
    if found.contains(&port) {
        return Ok(Answer::new(true, "listening"));
    }
    found.sort_unstable();
    found.dedup();
    let list: Vec<String> = found.iter().map(u16::to_string).collect();
    let list = if list.is_empty() {
        "none".to_owned()
    } else {
        list.join(" ")
    };
    Ok(Answer::no(format!("listening {protocol} ports: {list}")))
}

/// Local ports of the sockets in this state; a line is `N: ADDRESS:PORT PEER:PORT STATE ...`.
fn ports(table: &str, state: &str) -> Vec<u16> {
    let port = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (_, port) = fields.next()?.rsplit_once(':')?;
        let wanted = fields.nth(1)? == state;
        u16::from_str_radix(port, 16).ok().filter(|_| wanted)
    };
    table.lines().skip(1).filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn only_listening_sockets_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n   \
            0: 00000000:0016 00000000:0000 0A 00000000:00000000\n   \
            1: 0100007F:0050 0100007F:C350 01 00000000:00000000\n   \
            2: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A x\n\
            broken\n";
        assert_eq!(ports(table, "0A"), [22, 8080]);
    }

    #[test]
    fn real_sockets_are_seen() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp_port = tcp.local_addr().unwrap().port();
        let udp_port = udp.local_addr().unwrap().port();
        assert!(listening("tcp", tcp_port).unwrap().holds);
        assert!(listening("udp", udp_port).unwrap().holds);
        drop((tcp, udp));
        assert!(!listening("tcp", tcp_port).unwrap().holds);
        assert!(!listening("udp", udp_port).unwrap().holds);
        assert!(listening("sctp", 1).is_err());
    }
}
