//! The network card: address, route, up.
#![expect(unsafe_code, reason = "ioctls on network cards have no safe wrapper")]

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::{Fault, doing};

/// The only card: nothing renames it.
const CARD: &str = "eth0";

/// How long it may take to appear.
const PATIENCE: Duration = Duration::from_secs(60);

/// Gives the card its address, written with its prefix length, and brings it up.
pub fn configure(address: &str, gateway: Option<&str>) -> Result<(), Fault> {
    let (address, mask) = subnet(address).ok_or_else(|| format!("`{address}` is no subnet"))?;
    wait_for_card()?;
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    );
    let socket = socket.map_err(doing("open a socket"))?;
    set(&socket, libc::SIOCSIFADDR, of_address(address)).map_err(doing("set the address"))?;
    set(&socket, libc::SIOCSIFNETMASK, of_address(mask)).map_err(doing("set the netmask"))?;
    let flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    let flags = libc::__c_anonymous_ifr_ifru { ifru_flags: flags };
    set(&socket, libc::SIOCSIFFLAGS, flags).map_err(doing(format!("bring {CARD} up")))?;
    let Some(gateway) = gateway else {
        return Ok(());
    };
    let parsed = gateway
        .parse()
        .map_err(doing(format!("read `{gateway}`")))?;
    route(&socket, parsed).map_err(doing(format!("set the route by {gateway}")))
}

/// Address and netmask.
fn subnet(text: &str) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let (address, prefix) = text.split_once('/')?;
    let prefix: u32 = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
    let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
    Some((address.parse().ok()?, mask.into()))
}

fn wait_for_card() -> Result<(), Fault> {
    let start = Instant::now();
    let path = Path::new("/sys/class/net").join(CARD);
    while !path.exists() {
        if start.elapsed() > PATIENCE {
            return Err(format!(
                "{CARD} did not appear within {} s",
                PATIENCE.as_secs()
            ));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn internet(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    // `struct sockaddr_in`: two bytes of port, four of address, in the order of the network.
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    libc::sockaddr {
        sa_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default(),
        sa_data: data,
    }
}

fn of_address(address: Ipv4Addr) -> libc::__c_anonymous_ifr_ifru {
    libc::__c_anonymous_ifr_ifru {
        ifru_addr: internet(address),
    }
}

fn set(
    socket: &OwnedFd,
    operation: libc::c_ulong,
    value: libc::__c_anonymous_ifr_ifru,
) -> Result<(), Errno> {
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(CARD.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: value,
    };
    // SAFETY: the structure is the kernel's own, lives until the call returns, and is only read.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), operation, &raw const request) };
    Errno::result(result).map(drop)
}

fn route(socket: &OwnedFd, gateway: Ipv4Addr) -> Result<(), Errno> {
    // SAFETY: all fields are numbers, arrays of numbers or pointers, for which zeros are valid.
    let mut entry: libc::rtentry = unsafe { std::mem::zeroed() };
    entry.rt_dst = internet(Ipv4Addr::UNSPECIFIED);
    entry.rt_genmask = internet(Ipv4Addr::UNSPECIFIED);
    entry.rt_gateway = internet(gateway);
    entry.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    // SAFETY: as in `set`; the null name of the device leaves the choice to the kernel.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT, &raw const entry) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_have_masks() {
        let rows = [
            ("10.1.0.2/24", Some(("10.1.0.2", "255.255.255.0"))),
            ("10.1.0.2/32", Some(("10.1.0.2", "255.255.255.255"))),
            ("10.1.0.2/0", Some(("10.1.0.2", "0.0.0.0"))),
            ("10.1.0.2/33", None),
            ("10.1.0.2", None),
            ("::1/64", None),
        ];
        for (text, expected) in rows {
            let expected = expected.map(|(address, mask): (&str, &str)| {
                (address.parse().unwrap(), mask.parse().unwrap())
            });
            assert_eq!(subnet(text), expected, "{text}");
        }
    }
}
