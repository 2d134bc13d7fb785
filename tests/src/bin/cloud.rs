//! The tests' SQS and S3 as a process of its own, for benchmarks: `cloud QUEUE BUCKET` makes both
//! and prints `listening http://127.0.0.1:PORT`; the queue is `…/000000000000/QUEUE` there.

use std::io::Write;
use support::Cloud;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(queue), Some(bucket), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        eprintln!("usage: cloud QUEUE BUCKET");
        std::process::exit(64);
    };
    let cloud = Cloud::start().await;
    cloud.bucket(&bucket);
    cloud.queue(&queue, &[]).await;
    let mut out = std::io::stdout();
    // Whoever started it waits for this line; when nobody reads it there is nothing to do.
    let _ = writeln!(out, "listening {}", cloud.url());
    let _ = out.flush();
    std::future::pending::<()>().await;
}
