//! Ways to a backend other than its port: bytes are passed on as they are.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::port::ReservedPort;

/// Stops when dropped; connections that it has made go on.
#[derive(Debug)]
pub struct Relay(JoinHandle<()>);

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A Unix socket, gone when dropped.
#[cfg(unix)]
#[derive(Debug)]
pub struct UnixDoor {
    path: std::path::PathBuf,
    _relay: Relay,
}

#[cfg(unix)]
impl UnixDoor {
    /// A socket of its own in the folder for temporary files, before `backend`.
    pub fn to(backend: SocketAddr) -> Self {
        let name = format!(
            "tonic-health-channel-{}-{}",
            std::process::id(),
            backend.port()
        );
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
        Self {
            path,
            _relay: relay_unix(listener, backend),
        }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().expect("a folder with a plain name")
    }
}

#[cfg(unix)]
impl Drop for UnixDoor {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Passes on what comes in at `listener`.
#[cfg(unix)]
pub fn relay_unix(listener: tokio::net::UnixListener, backend: SocketAddr) -> Relay {
    Relay(tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass_on(client, backend));
        }
    }))
}

async fn pass_on(mut client: impl AsyncRead + AsyncWrite + Unpin, backend: SocketAddr) {
    // Whoever ends it, the other side sees the end.
    if let Ok(mut server) = TcpStream::connect(backend).await {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

/// An HTTP proxy that knows CONNECT, and sends everybody to one backend.
#[derive(Debug)]
pub struct HttpProxy {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _relay: Relay,
}

impl HttpProxy {
    /// Answers with `answer`, whose lines end as in HTTP, then relays.
    pub fn start(backend: SocketAddr, answer: &'static str) -> Self {
        let port = ReservedPort::any();
        let addr = port.addr();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let relay = Relay(tokio::spawn(proxy(
            port.listen(),
            backend,
            answer,
            asked.clone(),
        )));
        Self {
            addr,
            asked,
            _relay: relay,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The head of each request, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no holder panics").clone()
    }
}

async fn proxy(
    listener: TcpListener,
    backend: SocketAddr,
    answer: &'static str,
    asked: Arc<Mutex<Vec<String>>>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let asked = asked.clone();
        tokio::spawn(async move {
            let mut client = BufReader::new(client);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                match client.read_line(&mut head).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return,
                }
            }
            asked.lock().expect("no holder panics").push(head);
            if client.write_all(answer.as_bytes()).await.is_ok() && answer.contains(" 200 ") {
                pass_on(client, backend).await;
            }
        });
    }
}
