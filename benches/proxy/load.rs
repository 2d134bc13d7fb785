//! Load from ordinary threads with blocking sockets: `wrk` knows no fixed rate, and an asynchronous
//! runtime's timers are a millisecond coarse.
//!
//! - `rate HOST:PORT PATH PER_SECOND SECONDS CONNECTIONS`: latencies at a fixed rate. A request that
//!   could not start in time, because the one before it was not answered, counts from when it was
//!   due: what waits is not left out (coordinated omission).
//! - `hold HOST:PORT PATH CONNECTIONS`: that many connections, each after one request, held until
//!   stdin ends.
//! - `herd HOST:PORT PATH CONNECTIONS`: all ask for the same at once.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const READ_BYTES: usize = 64 * 1024;
/// A herd's clients do next to nothing; 1,000 default stacks would be 2 GB of addresses.
const STACK_BYTES: usize = 128 * 1024;

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(address: &str, path: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes();
        Ok(Self { stream, request, buffer: vec![0; READ_BYTES] })
    }

    fn send(&mut self) -> Result<()> {
        self.stream.write_all(&self.request)
    }

    /// Reads one answer to its end.
    fn receive(&mut self) -> Result<()> {
        let mut filled = 0;
        let (head, length) = loop {
            filled += self.read(filled)?;
            let text = &self.buffer[..filled];
            if let Some(at) = text.windows(4).position(|four| four == b"\r\n\r\n") {
                break (at + 4, content_length(&text[..at])?);
            }
        };
        let mut left = (head + length).saturating_sub(filled);
        while left > 0 {
            left = left.saturating_sub(self.read(0)?);
        }
        Ok(())
    }

    fn read(&mut self, from: usize) -> Result<usize> {
        match self.stream.read(&mut self.buffer[from..])? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

fn content_length(head: &[u8]) -> Result<usize> {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    if !text.starts_with("http/1.1 200") {
        return Err(Error::other(text));
    }
    let line = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    line.and_then(|value| value.trim().parse().ok()).ok_or_else(|| Error::other("no length"))
}

/// Latencies of one connection's share of the rate.
fn paced(
    mut own: Connection,
    first: Instant,
    every: Duration,
    count: u32,
) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    for number in 0..count {
        let due = first + every * number;
        let early = due.saturating_duration_since(Instant::now());
        // Waking up late is the generator's fault, a connection that is not free the proxy's.
        let from = if early.is_zero() {
            due
        } else {
            std::thread::sleep(early);
            Instant::now()
        };
        own.send()?;
        own.receive()?;
        latencies.push(from.elapsed());
    }
    Ok(latencies)
}

fn rate(address: &str, path: &str, [per_second, seconds, connections]: [u32; 3]) -> Result<String> {
    let every = Duration::from_secs(1) * connections / per_second;
    let count = per_second * seconds / connections;
    let start = Instant::now() + Duration::from_millis(100);
    let mut threads: Vec<JoinHandle<Result<Vec<Duration>>>> = Vec::new();
    for number in 0..connections {
        let mut own = Connection::open(address, path)?;
        own.send()?;
        own.receive()?;
        let first = start + every * number / connections;
        threads.push(std::thread::spawn(move || paced(own, first, every, count)));
    }
    let mut latencies = Vec::new();
    for thread in threads {
        latencies.extend(thread.join().map_err(|_| Error::other("a thread died"))??);
    }
    latencies.sort_unstable();
    let at = |part: f64| {
        let index = ((latencies.len() as f64 * part).ceil() as usize).saturating_sub(1);
        latencies.get(index).map_or(0, Duration::as_micros)
    };
    let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
    Ok(format!("{{\"p50\": {p50}, \"p99\": {p99}, \"p999\": {p999}}}"))
}

fn hold(address: &str, path: &str, connections: u32) -> Result<String> {
    let mut held = Vec::new();
    for _ in 0..connections {
        let mut own = Connection::open(address, path)?;
        own.buffer = vec![0; 4096];
        own.send()?;
        own.receive()?;
        own.buffer = Vec::new();
        held.push(own.stream);
    }
    writeln!(std::io::stdout(), "held")?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let mut open = 0;
    for stream in held {
        stream.set_nonblocking(true)?;
        let peeked = stream.peek(&mut [0]);
        open += u32::from(peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    }
    Ok(format!("{{\"open\": {open}}}"))
}

fn herd(address: &str, path: &str, connections: u32) -> Result<String> {
    let gate = Arc::new(Barrier::new(connections as usize + 1));
    let mut threads: Vec<JoinHandle<Result<()>>> = Vec::new();
    for _ in 0..connections {
        let mut own = Connection::open(address, path)?;
        let gate = Arc::clone(&gate);
        let ask = move || {
            gate.wait();
            own.send()?;
            own.receive()
        };
        threads.push(std::thread::Builder::new().stack_size(STACK_BYTES).spawn(ask)?);
    }
    gate.wait();
    let started = Instant::now();
    for thread in threads {
        thread.join().map_err(|_| Error::other("a thread died"))??;
    }
    Ok(format!("{{\"ms\": {}}}", started.elapsed().as_millis()))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &str| text.parse::<u32>().map_err(Error::other);
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let said = match texts.as_slice() {
        ["rate", address, path, per_second, seconds, connections] => {
            rate(address, path, [number(per_second)?, number(seconds)?, number(connections)?])?
        }
        ["hold", address, path, connections] => hold(address, path, number(connections)?)?,
        ["herd", address, path, connections] => herd(address, path, number(connections)?)?,
        _ => return Err(Error::other("usage: rate|hold|herd HOST:PORT PATH NUMBERS")),
    };
    writeln!(std::io::stdout(), "{said}")
}
