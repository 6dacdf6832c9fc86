//! Ports that survive a restart of the program that listens on them.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// A port that is free for TCP and UDP, below the range from which the kernel hands out its own.
pub fn free() -> u16 {
    loop {
        let mut random = [0; 2];
        getrandom::fill(&mut random).unwrap();
        let port = 10_000 + u16::from_le_bytes(random) % 20_000;
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
}
