//! Requests that come whether or not those before them were answered, from clients that give up.
//!
//! - `HOST:PORT PATH PER_SECOND SECONDS PATIENCE_MS`: at that rate, a connection each.
//! - `HOST:PORT PATH CLIENTS SECONDS`: so many clients, each of whom asks when it was answered.

use std::io::{Error, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A client does next to nothing; thousands of default stacks would be gigabytes of addresses.
const STACK_BYTES: usize = 128 * 1024;

/// What became of a request.
enum Outcome {
    /// 200, after so long.
    Answered(Duration),
    /// Anything else.
    Refused,
    /// Nothing in time, or a broken connection.
    GivenUp,
}

fn ask(address: SocketAddr, path: &str, patience: Duration) -> Outcome {
    let begun = Instant::now();
    match answer(address, path, begun + patience) {
        Ok(head) if head.starts_with(b"HTTP/1.1 200") => Outcome::Answered(begun.elapsed()),
        Ok(_) => Outcome::Refused,
        Err(_) => Outcome::GivenUp,
    }
}

fn answer(address: SocketAddr, path: &str, until: Instant) -> Result<Vec<u8>> {
    let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&address, left())?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut read = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        stream.set_read_timeout(Some(left()))?;
        match stream.read(&mut buffer)? {
            0 => return Ok(read),
            count => read.extend_from_slice(&buffer[..count]),
        }
    }
}

fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work)
}

fn joined<T>(threads: Vec<JoinHandle<Vec<T>>>) -> Result<Vec<T>> {
    let mut all = Vec::new();
    for thread in threads {
        all.extend(thread.join().map_err(|_| Error::other("a thread died"))?);
    }
    Ok(all)
}

/// So many threads that each is free again when its next request is due.
fn flood(
    address: SocketAddr,
    path: &str,
    per_second: f64,
    [seconds, patience_ms]: [u32; 2],
) -> Result<String> {
    let patience = Duration::from_millis(patience_ms.into());
    let threads = (per_second * patience.as_secs_f64() * 1.25).ceil().max(1.0);
    let every = Duration::from_secs_f64(threads / per_second);
    let count = (f64::from(seconds) * per_second / threads).round() as u32;
    let start = Instant::now() + Duration::from_millis(200);
    let mut running = Vec::new();
    for number in 0..threads as u32 {
        let (path, first) = (path.to_owned(), start + every.mul_f64(f64::from(number) / threads));
        running.push(spawn(move || {
            let paced = (0..count).map(|turn| {
                std::thread::sleep(
                    (first + every * turn).saturating_duration_since(Instant::now()),
                );
                ask(address, &path, patience)
            });
            paced.collect()
        })?);
    }
    Ok(told(&joined(running)?))
}

fn told(outcomes: &[Outcome]) -> String {
    let (mut in_time, mut refused, mut given_up) = (Vec::new(), 0, 0);
    for outcome in outcomes {
        match outcome {
            Outcome::Answered(after) => in_time.push(after.as_micros()),
            Outcome::Refused => refused += 1,
            Outcome::GivenUp => given_up += 1,
        }
    }
    in_time.sort_unstable();
    let at = |part: f64| {
        let index = ((in_time.len() as f64 * part).ceil() as usize).saturating_sub(1);
        in_time.get(index).copied().unwrap_or(0)
    };
    let (count, p50, p99) = (in_time.len(), at(0.5), at(0.99));
    format!(
        "{{\"in_time\": {count}, \"refused\": {refused}, \"given_up\": {given_up}, \"p50\": {p50}, \"p99\": {p99}}}"
    )
}

fn closed(address: SocketAddr, path: &str, [clients, seconds]: [u32; 2]) -> Result<String> {
    let patience = Duration::from_secs(30);
    let until = Instant::now() + Duration::from_secs(seconds.into());
    let mut running = Vec::new();
    for _ in 0..clients {
        let path = path.to_owned();
        running.push(spawn(move || {
            let mut answers = Vec::new();
            while Instant::now() < until {
                if matches!(ask(address, &path, patience), Outcome::Answered(_)) {
                    answers.push(());
                }
            }
            answers
        })?);
    }
    let answers = joined(running)?.len() as f64;
    Ok(format!("{{\"per_second\": {}}}", answers / f64::from(seconds)))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u32>().map_err(Error::other);
    let said = match texts.as_slice() {
        [address, path, clients, seconds] => {
            let address = address.parse().map_err(Error::other)?;
            closed(address, path, [number(clients)?, number(seconds)?])?
        }
        [address, path, per_second, seconds, patience] => {
            let address = address.parse().map_err(Error::other)?;
            let per_second = per_second.parse().map_err(Error::other)?;
            flood(address, path, per_second, [number(seconds)?, number(patience)?])?
        }
        _ => {
            return Err(Error::other(
                "usage: HOST:PORT PATH RATE_OR_CLIENTS SECONDS [PATIENCE_MS]",
            ));
        }
    };
    writeln!(std::io::stdout(), "{said}")
}
