//! TCP: what listens, and what connects.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use baker_contract::neighbour::{End, greeting, heard};

use crate::{Fault, doing};

/// How long a server that accepted may take to say something.
const GREETING: Duration = Duration::from_secs(5);

/// More is not read of what a server says.
const LONGEST: u64 = 512;

/// Listens on a port of all addresses, from now on.
pub fn listen(name: &str, port: u16) -> Result<(), Fault> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    let listener = listener.map_err(doing(format!("listen on port {port}")))?;
    let name = name.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A connection that is gone already needs no greeting.
            stream.and_then(|stream| greet(&name, stream)).ok();
        }
    });
    Ok(())
}

fn greet(name: &str, mut stream: TcpStream) -> std::io::Result<()> {
    let peer = stream.peer_addr()?.ip().to_string();
    stream.write_all(format!("{}\n", greeting(name, &peer)).as_bytes())
}

/// Connects once.
pub fn reach(target: SocketAddr, patience: Duration) -> End {
    let stream = match TcpStream::connect_timeout(&target, patience) {
        Ok(stream) => stream,
        Err(error) => return end_of(&error),
    };
    // Whatever it says or does not say, it has accepted.
    stream.set_read_timeout(Some(GREETING)).ok();
    let mut said = Vec::new();
    stream.take(LONGEST).read_to_end(&mut said).ok();
    heard(&String::from_utf8_lossy(&said))
}

/// What it means that nobody accepted. A host that is not there makes the kernel say that there is
/// no way to it: that is no word of the other end.
fn end_of(error: &std::io::Error) -> End {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => End::Refused,
        ErrorKind::TimedOut => End::Silent,
        _ => End::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_end_in_their_ways() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let server = thread::spawn(move || greet("right", listener.accept().unwrap().0));
        let by = Some("right".to_owned());
        let seen_as = Some("127.0.0.1".to_owned());
        let patience = Duration::from_secs(5);
        assert_eq!(reach(target, patience), End::Answered { by, seen_as });
        server.join().unwrap().unwrap();
        assert_eq!(reach(target, patience), End::Refused);
        let rows = [
            (ErrorKind::TimedOut, End::Silent),
            (ErrorKind::ConnectionRefused, End::Refused),
        ];
        for (kind, end) in rows {
            assert_eq!(end_of(&kind.into()), end);
        }
        let nowhere = end_of(&ErrorKind::HostUnreachable.into());
        assert!(matches!(nowhere, End::Failed(_)), "{nowhere:?}");
    }
}
