//! A gateway in front of a real registry: it passes everything on, but for what a test has it do.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openssl::ssl::SslAcceptor;

use crate::tools::Site;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The registry's answer, where somebody wants to change it.
    upstream: u16,
    head: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn is(&self, part: &str) -> bool {
        self.path.contains(part)
    }

    /// What the registry says to the same at another path.
    pub fn again(&self) -> Vec<u8> {
        let text = String::from_utf8_lossy(&self.head);
        let rest = text.split_once("\r\n").unwrap().1;
        let head = format!("{} {} HTTP/1.1\r\n{rest}", self.method, self.path).into_bytes();
        Self { head, ..self.clone() }.pass()
    }

    /// What the registry says to it.
    pub fn pass(&self) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.upstream)).unwrap();
        stream.write_all(&self.head).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }
}

/// What the gateway does with a request.
pub enum Do {
    /// Passes it on.
    Pass,
    /// Answers: status, headers, body.
    Say(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Answers with these bytes, head and all.
    Raw(Vec<u8>),
    /// Says that much is coming, and sends a byte now and then.
    Drip(u64),
    /// Sends without end.
    Endless,
    /// Never answers.
    Hang,
}

impl Do {
    pub fn status(status: u16) -> Self {
        Self::Say(status, vec![], vec![])
    }

    pub fn json(body: impl ToString) -> Self {
        let kind = ("Content-Type", "application/vnd.oci.image.index.v1+json".to_owned());
        Self::Say(200, vec![kind], body.to_string().into_bytes())
    }
}

/// Decides what is done with a request.
pub type Handler = dyn Fn(&Request) -> Do + Send + Sync;

/// The gateway; it ends with the value.
pub struct Gateway {
    pub port: u16,
    log: Arc<Mutex<Vec<Request>>>,
    over: Arc<AtomicBool>,
}

impl Gateway {
    pub fn new(site: Site, handler: impl Fn(&Request) -> Do + Send + Sync + 'static) -> Self {
        Self::start(site, None, handler)
    }

    /// The same behind TLS.
    pub fn secure(site: Site, acceptor: SslAcceptor, handler: impl Fn(&Request) -> Do + Send + Sync + 'static) -> Self {
        Self::start(site, Some(Arc::new(acceptor)), handler)
    }

    fn start(
        site: Site,
        acceptor: Option<Arc<SslAcceptor>>,
        handler: impl Fn(&Request) -> Do + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (log, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (seen, ended) = (log.clone(), over.clone());
        let handler: Arc<Handler> = Arc::new(handler);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (seen, handler, ended, acceptor) = (seen.clone(), handler.clone(), ended.clone(), acceptor.clone());
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
                    let serve = Serve { upstream: site.port, seen, handler, ended };
                    match acceptor {
                        Some(acceptor) => {
                            if let Ok(mut tls) = acceptor.accept(stream) {
                                let _ = serve.one(&mut tls, None);
                                let _ = tls.shutdown();
                            }
                        }
                        None => {
                            let mut plain = &stream;
                            let _ = serve.one(&mut plain, Some(&stream));
                            let _ = stream.shutdown(Shutdown::Both);
                        }
                    }
                });
            }
        });
        Self { port, log, over }
    }

    pub fn repository(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// Everything that was asked.
    pub fn log(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// How often something with `part` in its path was asked.
    pub fn asked(&self, part: &str) -> usize {
        self.log().iter().filter(|r| r.is(part)).count()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

struct Serve {
    upstream: u16,
    seen: Arc<Mutex<Vec<Request>>>,
    handler: Arc<Handler>,
    ended: Arc<AtomicBool>,
}

impl Serve {
    /// One request for one connection: the head says so.
    fn one(&self, client: &mut (impl Read + Write), plain: Option<&TcpStream>) -> std::io::Result<()> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() > 64 << 10 || client.read(&mut byte)? == 0 {
                return Ok(());
            }
            if head.is_empty() && plain.is_some() && byte[0] == 0x16 {
                // TLS: as Go's server answers it.
                return client
                    .write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.\n");
            }
            head.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut lines = text.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let header = |l: &str| l.split_once(": ").map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()));
        let headers: Vec<(String, String)> = lines.filter_map(header).collect();
        let mut passed = format!("{method} {path} HTTP/1.1\r\n");
        for (name, value) in headers.iter().filter(|(n, _)| n != "connection") {
            passed.push_str(&format!("{name}: {value}\r\n"));
        }
        passed.push_str("connection: close\r\n\r\n");
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            headers,
            upstream: self.upstream,
            head: passed.into_bytes(),
        };
        self.seen.lock().unwrap().push(request.clone());
        match (self.handler)(&request) {
            Do::Pass => self.pass(&request, client, plain),
            Do::Raw(bytes) => client.write_all(&bytes),
            Do::Say(status, headers, body) => {
                let mut head =
                    format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
                headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
                client.write_all(format!("{head}\r\n").as_bytes())?;
                client.write_all(&body)
            }
            Do::Drip(size) => {
                let head = format!("HTTP/1.1 200 x\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n");
                client.write_all(head.as_bytes())?;
                self.while_wanted(|| client.write_all(b"x").and_then(|()| client.flush()))
            }
            Do::Endless => {
                client.write_all(b"HTTP/1.1 200 x\r\nConnection: close\r\n\r\n")?;
                let block = vec![b' '; 1 << 16];
                for _ in 0..1 << 17 {
                    client.write_all(&block)?;
                }
                Ok(())
            }
            Do::Hang => self.while_wanted(|| Ok(())),
        }
    }

    fn while_wanted(&self, mut each: impl FnMut() -> std::io::Result<()>) -> std::io::Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until && !self.ended.load(Ordering::Relaxed) {
            each()?;
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// What the client sends goes on while the answer comes: uploads have no length.
    fn pass(
        &self,
        request: &Request,
        client: &mut (impl Read + Write),
        plain: Option<&TcpStream>,
    ) -> std::io::Result<()> {
        let mut upstream = TcpStream::connect(("127.0.0.1", self.upstream))?;
        upstream.write_all(&request.head)?;
        let Some(plain) = plain else {
            let mut answer = Vec::new();
            upstream.read_to_end(&mut answer)?;
            return client.write_all(&answer);
        };
        let (mut from, mut to) = (plain.try_clone()?, upstream.try_clone()?);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
        });
        std::io::copy(&mut upstream, client)?;
        plain.shutdown(Shutdown::Both)
    }
}
