//! A network that loses, stops and moves: a UDP relay between one agent and its coordinator, without any privilege.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Largest UDP payload.
const DATAGRAM: usize = 65_536;
/// How often the relay looks whether it shall end or has moved.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct Shared {
    coordinator: SocketAddr,
    front: UdpSocket,
    /// Towards the coordinator; another one is another source port.
    back: Mutex<Arc<UdpSocket>>,
    agent: Mutex<Option<SocketAddr>>,
    /// What the agent sent so far, while that is kept.
    recorded: Mutex<Option<Vec<Vec<u8>>>>,
    loss_percent: AtomicU32,
    random: AtomicU64,
    stopped: AtomicBool,
}

/// The relay; it ends when dropped.
#[derive(Debug)]
pub struct LossyPath {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(LOOK)).unwrap();
    socket
}

impl LossyPath {
    /// A path to the port that loses nothing yet.
    pub fn to(port: u16) -> Self {
        let shared = Arc::new(Shared {
            coordinator: (Ipv4Addr::LOCALHOST, port).into(),
            front: socket(),
            back: Mutex::new(Arc::new(socket())),
            agent: Mutex::new(None),
            recorded: Mutex::new(None),
            loss_percent: AtomicU32::new(0),
            random: AtomicU64::new(1),
            stopped: AtomicBool::new(false),
        });
        let ways: [fn(&Shared); 2] = [Shared::forth, Shared::back];
        let threads = ways.map(|way| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || way(&shared))
        });
        Self { shared, threads: threads.into() }
    }

    /// What the agent dials.
    pub fn address(&self) -> String {
        self.shared.front.local_addr().unwrap().to_string()
    }

    /// So many of a hundred datagrams are lost from now on, each way; 100 is a partition.
    pub fn lose(&self, percent: u32) {
        self.shared.loss_percent.store(percent, Ordering::SeqCst);
    }

    /// Keeps what the agent sends from now on.
    pub fn record(&self) {
        *self.shared.recorded.lock().unwrap() = Some(Vec::new());
    }

    /// What the agent sent since [`Self::record`].
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        self.shared.recorded.lock().unwrap().clone().unwrap_or_default()
    }

    /// From now on the agent comes from another port, as behind a NAT that forgot it.
    pub fn move_agent(&self) {
        *self.shared.back.lock().unwrap() = Arc::new(socket());
    }
}

impl Drop for LossyPath {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // A relay that panicked has failed its test already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn runs(&self) -> bool {
        !self.stopped.load(Ordering::SeqCst)
    }

    fn is_lost(&self) -> bool {
        let next = |state: u64| {
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
        };
        let random = self
            .random
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| Some(next(state)))
            .unwrap_or_default()
            >> 33;
        random % 100 < u64::from(self.loss_percent.load(Ordering::SeqCst))
    }

    fn forth(&self) {
        let mut datagram = vec![0; DATAGRAM];
        while self.runs() {
            let Ok((len, from)) = self.front.recv_from(&mut datagram) else { continue };
            *self.agent.lock().unwrap() = Some(from);
            if let Some(recorded) = &mut *self.recorded.lock().unwrap() {
                recorded.push(datagram.get(..len).unwrap().to_vec());
            }
            if !self.is_lost() {
                let back = Arc::clone(&self.back.lock().unwrap());
                // A closed port answers with an error, which is a loss like any other.
                let _ = back.send_to(datagram.get(..len).unwrap(), self.coordinator);
            }
        }
    }

    fn back(&self) {
        let mut datagram = vec![0; DATAGRAM];
        while self.runs() {
            let back = Arc::clone(&self.back.lock().unwrap());
            let Ok((len, _)) = back.recv_from(&mut datagram) else { continue };
            let agent = *self.agent.lock().unwrap();
            if let Some(agent) = agent.filter(|_| !self.is_lost()) {
                let _ = self.front.send_to(datagram.get(..len).unwrap(), agent);
            }
        }
    }
}
