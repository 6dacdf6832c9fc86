//! A TCP relay before the coordinator's HTTPS that can lose answers whose requests arrived.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the relay looks for a connection, and whether it shall end.
const LOOK: Duration = Duration::from_millis(20);
/// What a client sends to finish its handshake is shorter, and a request is longer.
const REQUEST_BEGINS: usize = 200;

#[derive(Debug)]
struct Shared {
    coordinator: SocketAddr,
    losing: AtomicBool,
    stopped: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// The relay; it ends when dropped.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

impl Relay {
    /// A relay to the port that loses nothing yet.
    #[track_caller]
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            coordinator: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            losing: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || accept(&for_thread, &listener));
        Self { shared, address, accepting: Some(accepting) }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From the next connection on, requests arrive and answers do not.
    pub fn lose_answers(&self) {
        self.shared.losing.store(true, Ordering::SeqCst);
    }

    /// Breaks what is open; later connections lose nothing.
    pub fn mend(&self) {
        self.shared.losing.store(false, Ordering::SeqCst);
        self.shared.close();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn close(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(shared: &Shared, listener: &TcpListener) {
    let mut copies = Vec::new();
    while !shared.stopped.load(Ordering::SeqCst) {
        let Ok((client, _)) = listener.accept() else {
            std::thread::sleep(LOOK);
            continue;
        };
        // As with a real one, a connection to a coordinator that is away ends at once.
        let Ok(server) = TcpStream::connect(shared.coordinator) else { continue };
        client.set_nonblocking(false).unwrap();
        shared.open.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
        let losing = shared.losing.load(Ordering::SeqCst);
        let asked = Arc::new(AtomicUsize::new(0));
        let answered = Arc::new(AtomicBool::new(false));
        let (from_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let (count, began) = (Arc::clone(&asked), Arc::clone(&answered));
        copies.push(std::thread::spawn(move || {
            copy(from_client, to_server, |length| {
                if began.load(Ordering::SeqCst) {
                    count.fetch_add(length, Ordering::SeqCst);
                }
                true
            });
        }));
        copies.push(std::thread::spawn(move || {
            copy(server, client, |_| {
                answered.store(true, Ordering::SeqCst);
                !losing || asked.load(Ordering::SeqCst) < REQUEST_BEGINS
            });
        }));
    }
    shared.close();
    for copy in copies {
        let _ = copy.join();
    }
}

/// Hands on what is read, where `passes` says so, until either side ends.
fn copy(mut from: TcpStream, mut to: TcpStream, mut passes: impl FnMut(usize) -> bool) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let Some(bytes) = buffer.get(..length) else { break };
        if passes(length) && to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
