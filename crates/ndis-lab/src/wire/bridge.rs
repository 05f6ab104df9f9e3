//! Bridges: a segment of the driver, seen through a monitor port, joined to another one, to a UNIX
//! datagram socket (one frame a datagram) or to a Linux TAP device, in real time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::cable::{Cable, End, Tally};
use crate::adapter::Adapter;
use crate::adapter::receive::Received;
use crate::adapter::send::{SendNbl, SendOptions};
use crate::error::LabError;

/// How often a thread that waits looks whether it shall end.
const TICK: Duration = Duration::from_millis(20);
/// The longest frame that is taken from outside.
#[cfg(unix)]
const LONGEST: usize = 1 << 16;

/// Where frames come from and go to.
pub trait Port: Send {
    /// Gives frames that come in to `take`, until the bridge ends: `ended` says so.
    ///
    /// # Errors
    /// What the host says.
    fn open(&mut self, take: Take, ended: Arc<AtomicBool>) -> io::Result<Option<JoinHandle<()>>>;

    /// Sends a frame.
    ///
    /// # Errors
    /// What the host or the lab says; the frame is lost then.
    fn send(&mut self, frame: &[u8]) -> io::Result<()>;

    /// Stops to give frames.
    fn close(&mut self) {}
}

/// Takes frames for a bridge, from any thread.
#[derive(Clone)]
pub struct Take {
    end: End,
    channel: Sender<(End, Vec<u8>)>,
}

impl Take {
    /// Takes a frame; `false` if the bridge has ended.
    pub fn frame(&self, frame: Vec<u8>) -> bool {
        self.channel.send((self.end, frame)).is_ok()
    }
}

/// A bridge at work; ends when it is dropped.
pub struct Bridge {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    tally: Tally,
    lost: u64,
    error: Option<String>,
}

impl Bridge {
    /// Joins two ports by a cable.
    ///
    /// # Errors
    /// What the host says when a port is opened.
    pub fn join(mut a: Box<dyn Port>, mut b: Box<dyn Port>, cable: Cable) -> io::Result<Self> {
        let (sender, receiver) = channel();
        let ended = Arc::new(AtomicBool::new(false));
        let mut bridge = Self { ended: ended.clone(), threads: Vec::new(), state: Arc::default() };
        for (port, end) in [(&mut a, End::A), (&mut b, End::B)] {
            let take = Take { end, channel: sender.clone() };
            bridge.threads.extend(port.open(take, ended.clone())?);
        }
        drop(sender);
        let state = bridge.state.clone();
        let mover = std::thread::Builder::new().name("bridge".into());
        bridge.threads.push(mover.spawn(move || carry(a, b, cable, &receiver, &ended, &state))?);
        Ok(bridge)
    }

    /// What the cable did.
    pub fn tally(&self) -> Tally {
        self.state.lock().tally
    }

    /// Frames that a port could not send, and why the last one.
    pub fn lost(&self) -> (u64, Option<String>) {
        let state = self.state.lock();
        (state.lost, state.error.clone())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // Relaxed: nothing else is published by it; the threads are joined next.
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Moves frames until the bridge ends.
fn carry(
    mut a: Box<dyn Port>,
    mut b: Box<dyn Port>,
    mut cable: Cable,
    receiver: &Receiver<(End, Vec<u8>)>,
    ended: &AtomicBool,
    state: &Mutex<State>,
) {
    let start = Instant::now();
    // Relaxed: see `drop`.
    while !ended.load(Ordering::Relaxed) {
        let wait = cable.next_due().map_or(TICK, |due| due.saturating_sub(start.elapsed()).min(TICK));
        match receiver.recv_timeout(wait) {
            Ok((end, frame)) => cable.push(start.elapsed(), end, frame),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        while let Some((to, frame)) = cable.pop(start.elapsed()) {
            let port = if to == End::A { &mut a } else { &mut b };
            if let Err(error) = port.send(&frame) {
                let mut state = state.lock();
                state.lost += 1;
                state.error = Some(error.to_string());
            }
        }
        state.lock().tally = cable.tally();
    }
    a.close();
    b.close();
}

/// An adapter with a promiscuous packet filter, running, on the segment that is bridged. What it
/// receives crossed the wire, what it sends is put there.
pub struct MonitorPort(pub Adapter);

impl Port for MonitorPort {
    fn open(&mut self, take: Take, _: Arc<AtomicBool>) -> io::Result<Option<JoinHandle<()>>> {
        self.0.set_receive_sink(Some(Arc::new(move |_: &Adapter, frames: Vec<Received>| {
            for received in frames {
                take.frame(received.frame);
            }
        })));
        Ok(None)
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let outside = |error: LabError| io::Error::other(error.to_string());
        let sent = self.0.send_with(&[SendNbl::frame(frame)], SendOptions::default()).map_err(outside)?;
        match sent.wait(Duration::from_secs(2)).map_err(outside)?.first() {
            Some(outcome) if !outcome.is_success() => {
                Err(io::Error::other(format!("the send ended with {:#010x}", outcome.status.cast_unsigned())))
            }
            _ => Ok(()),
        }
    }

    fn close(&mut self) {
        self.0.set_receive_sink(None);
    }
}

#[cfg(unix)]
mod unix {
    use std::io;
    use std::os::unix::net::UnixDatagram;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::JoinHandle;

    use super::{LONGEST, Port, TICK, Take};

    /// A UNIX datagram socket: frames, with MAC header and without FCS, one a datagram. QEMU's
    /// `-netdev dgram` speaks so.
    pub struct SocketPort {
        socket: UnixDatagram,
        own: PathBuf,
        peer: PathBuf,
    }

    impl SocketPort {
        /// Binds `own`, taking the place of a socket that is there, and sends to `peer`, which may
        /// come later: frames until then are lost.
        ///
        /// # Errors
        /// What the host says.
        pub fn bind(own: &Path, peer: &Path) -> io::Result<Self> {
            use std::os::unix::fs::FileTypeExt as _;
            if std::fs::symlink_metadata(own).is_ok_and(|found| found.file_type().is_socket()) {
                std::fs::remove_file(own)?;
            }
            let socket = UnixDatagram::bind(own)?;
            socket.set_read_timeout(Some(TICK))?;
            socket.set_write_timeout(Some(TICK))?;
            Ok(Self { socket, own: own.to_owned(), peer: peer.to_owned() })
        }
    }

    impl Port for SocketPort {
        fn open(&mut self, take: Take, ended: Arc<AtomicBool>) -> io::Result<Option<JoinHandle<()>>> {
            let socket = self.socket.try_clone()?;
            let reader = std::thread::Builder::new().name("bridge socket".into());
            let thread = reader.spawn(move || {
                let mut buffer = vec![0; LONGEST];
                // Relaxed: see `Bridge::drop`.
                while !ended.load(Ordering::Relaxed) {
                    // A time-out, or a peer that is gone for now.
                    let Ok(length) = socket.recv(&mut buffer) else { continue };
                    if !take.frame(buffer[..length].to_vec()) {
                        break;
                    }
                }
            })?;
            Ok(Some(thread))
        }

        fn send(&mut self, frame: &[u8]) -> io::Result<()> {
            self.socket.send_to(frame, &self.peer).map(drop)
        }

        fn close(&mut self) {
            let _ = std::fs::remove_file(&self.own);
        }
    }
}
#[cfg(unix)]
pub use unix::SocketPort;

#[cfg(target_os = "linux")]
mod tap {
    use std::fs::{File, OpenOptions};
    use std::io::{self, Read as _, Write as _};
    use std::os::fd::AsRawFd as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::JoinHandle;

    use super::{LONGEST, Port, TICK, Take};

    /// `IFF_TAP | IFF_NO_PI`: Ethernet frames and nothing before them.
    #[allow(clippy::cast_possible_truncation)] // the kernel's field is that short
    const TAP_FLAGS: i16 = (libc::IFF_TAP | libc::IFF_NO_PI) as i16;

    /// A Linux TAP device (`Documentation/networking/tuntap.rst`): the kernel's network stack is the peer.
    pub struct TapPort(File);

    impl TapPort {
        /// Opens, or makes, the device; it has to be brought up by `ip link`. Needs CAP_NET_ADMIN, or
        /// a device that was made for this user.
        ///
        /// # Errors
        /// What the host says; `InvalidInput` for a name that no device can have.
        pub fn open(name: &str) -> io::Result<Self> {
            if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(['\0', '/']) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "no name of a device"));
            }
            let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
            // SAFETY: all bytes zero are a valid ifreq: an empty name and no flags.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
                *to = from.cast_signed();
            }
            request.ifr_ifru.ifru_flags = TAP_FLAGS;
            // SAFETY: TUNSETIFF reads and writes one ifreq, which lives here; the descriptor is open.
            if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(file))
        }
    }

    impl Port for TapPort {
        fn open(&mut self, take: Take, ended: Arc<AtomicBool>) -> io::Result<Option<JoinHandle<()>>> {
            let mut file = self.0.try_clone()?;
            let reader = std::thread::Builder::new().name("bridge tap".into());
            let thread = reader.spawn(move || {
                let mut buffer = vec![0; LONGEST];
                let tick = i32::try_from(TICK.as_millis()).unwrap_or(20);
                // Relaxed: see `Bridge::drop`.
                while !ended.load(Ordering::Relaxed) {
                    let mut wait = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                    // SAFETY: one pollfd, which lives here, of an open descriptor.
                    if unsafe { libc::poll(&raw mut wait, 1, tick) } <= 0 || wait.revents & libc::POLLIN == 0
                    {
                        continue;
                    }
                    let Ok(length) = file.read(&mut buffer) else { continue };
                    if !take.frame(buffer[..length].to_vec()) {
                        break;
                    }
                }
            })?;
            Ok(Some(thread))
        }

        fn send(&mut self, frame: &[u8]) -> io::Result<()> {
            self.0.write_all(frame)
        }
    }
}
#[cfg(target_os = "linux")]
pub use tap::TapPort;
