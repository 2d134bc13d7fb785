//! A connection's life as its two ends see it: kept, closed, half closed, too slow, switched.

use crate::wire::Wire;
use http1::Error;
use http1::server::Served;
use std::future::pending;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_connection_is_kept_until_somebody_says_close() {
    let mut wire = Wire::open();
    for _ in 0..3 {
        wire.say("GET / HTTP/1.1\r\n\r\n").await;
        assert!(!wire.hear("ok").await.contains("Connection:"));
    }
    wire.say("GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n").await;
    assert!(wire.rest().await.contains("\r\nConnection: close\r\n"));
}

#[tokio::test]
async fn http_1_0_closes_unless_told_otherwise_and_knows_no_chunks() {
    let mut wire = Wire::open();
    wire.say("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    assert!(wire.hear("ok").await.contains("\r\nConnection: keep-alive\r\n"));
    wire.say("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let answer = wire.rest().await;
    assert!(answer.ends_with("\r\n\r\nonetwo") && !answer.contains("Transfer-Encoding"));
}

#[tokio::test]
async fn what_has_no_length_is_chunked() {
    let mut wire = Wire::open();
    wire.say("GET /stream HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    let answer = wire.rest().await;
    assert!(answer.contains("\r\nTransfer-Encoding: chunked\r\n"));
    assert!(answer.ends_with("\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_seen_to_have_done_so() {
    let mut wire = Wire::open();
    wire.say("GET /broken HTTP/1.1\r\n\r\n").await;
    let heard = wire.rest().await;
    assert!(heard.contains("part") && !heard.ends_with("0\r\n\r\n"), "{heard}");
    assert!(matches!(wire.ended().await, Err(Error::Body(_))));
    let mut wire = Wire::open();
    wire.say("GET /short HTTP/1.1\r\n\r\n").await;
    let answer = wire.rest().await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && !answer.contains("abc"), "{answer}");
}

#[tokio::test]
async fn head_has_the_length_of_get_and_no_body() {
    let mut wire = Wire::open();
    wire.say("HEAD /short HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    let answer = wire.rest().await;
    assert!(answer.contains("Content-Length: 5\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_is_told_when_its_body_is_read_and_not_otherwise() {
    let head = "POST /whole HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    let mut wire = Wire::open();
    wire.say(head).await;
    assert!(wire.hear("\r\n\r\n").await.ends_with("HTTP/1.1 100 Continue\r\n\r\n"));
    wire.say("body").await;
    assert!(wire.hear("read").await.contains("200 OK"));
    wire.say(&head.replace("/whole", "/early")).await;
    let answer = wire.rest().await;
    // It may send its body or not, so that nothing can be read after it.
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("no"), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn interim_answers_come_before_the_answer_and_not_to_http_1_0() {
    let mut wire = Wire::open();
    wire.say("GET /hints HTTP/1.1\r\n\r\n").await;
    let hints = wire.hear("\r\n\r\n").await;
    assert_eq!(hints, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
    assert!(wire.hear("page").await.starts_with("HTTP/1.1 200 OK"));
    wire.say("GET /hints HTTP/1.0\r\n\r\n").await;
    assert!(wire.rest().await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_body_may_go_back_while_it_comes() {
    let mut wire = Wire::open();
    wire.say("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    wire.hear("\r\n\r\n").await;
    for text in ["1\r\na\r\n", "2\r\nbc\r\n"] {
        wire.say(text).await;
        assert_eq!(wire.hear(text).await, text);
    }
    wire.say("0\r\nx-sum: 3\r\nContent-Length: 9\r\n\r\n").await;
    assert_eq!(wire.hear("\r\n\r\n").await, "0\r\nX-Sum: 3\r\n\r\n");
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_is_readable_and_the_rest_is_read_in_vain() {
    let mut wire = Wire::open();
    wire.say("POST /early HTTP/1.1\r\nContent-Length: 1000\r\n\r\n").await;
    let first = wire.hear("no").await;
    assert!(first.starts_with("HTTP/1.1 200 OK") && !first.contains("Connection:"), "{first}");
    wire.say(&"x".repeat(1000)).await;
    wire.say("GET / HTTP/1.1\r\n\r\n").await;
    assert!(wire.hear("ok").await.starts_with("HTTP/1.1 200 OK"));
    // More than is read to keep the connection: it closes in stages, and what is left is no request.
    wire.say("POST /early HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n").await;
    wire.say(&"x".repeat(1_000_000)).await;
    wire.say("GET / HTTP/1.1\r\n\r\n").await;
    wire.stream.shutdown().await.expect("open");
    let last = wire.rest().await;
    // The client is told, or its next request would go into a connection that closes.
    assert!(last.contains("\r\nConnection: close\r\n") && last.ends_with("no"), "{last}");
}

#[tokio::test]
async fn after_101_the_connection_belongs_to_another() {
    let mut wire = Wire::open();
    wire.say("GET /switch HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearl").await;
    let answer = wire.rest().await;
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n") && answer.ends_with("earl"));
}

#[tokio::test]
async fn http_2_is_handed_on_with_all_that_was_read() {
    let mut wire = Wire::open();
    wire.say("PRI * HTT").await;
    tokio::task::yield_now().await;
    wire.say("P/2.0\r\n\r\nSM\r\n\r\n").await;
    let served = wire.served.await.expect("no panic").expect("no error");
    let Served::Http2(mut stream) = served else { panic!("taken for HTTP/1.1") };
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.expect("the preface");
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}

#[tokio::test]
async fn http_2_after_a_request_is_no_request() {
    let mut wire = Wire::open();
    wire.say("GET / HTTP/1.1\r\n\r\n").await;
    wire.hear("ok").await;
    wire.say("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(wire.rest().await.ends_with("version"));
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_client_gets_its_answer_as_late_as_it_comes() {
    for (path, end) in [("/echo", "\r\n\r\n"), ("/late", "late")] {
        let mut wire = Wire::open();
        wire.say(&format!("GET {path} HTTP/1.1\r\n\r\n")).await;
        wire.stream.shutdown().await.expect("open");
        let heard = wire.rest().await;
        assert!(heard.starts_with("HTTP/1.1 200 OK") && heard.ends_with(end), "{heard}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_before_it_began_is_another_one_and_never_none() {
    let mut wire = Wire::open();
    wire.say("GET /broken-at-once HTTP/1.1\r\n\r\n").await;
    let heard = wire.rest().await;
    assert!(heard.starts_with("HTTP/1.1 502 ") && heard.ends_with("instead"), "{heard}");
    assert!(heard.contains("Connection: close"), "{heard}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_a_silent_body_and_a_reader_that_does_not_read_are_not_waited_for() {
    let mut wire = Wire::open();
    wire.say("GET / HTTP/1.1\r\nX: ").await;
    assert_eq!(wire.rest().await, "");
    assert!(matches!(wire.ended().await, Err(Error::TooSlow)));
    let mut wire = Wire::open();
    wire.say("POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc").await;
    wire.rest().await;
    assert!(matches!(wire.ended().await, Err(Error::Body(_))));
    let mut wire = Wire::open();
    // Answers that nobody reads fill the pipe.
    let many = "GET / HTTP/1.1\r\n\r\n".repeat(10_000);
    let (mut stream, served) = (wire.stream, wire.served);
    let writing = tokio::spawn(async move {
        // It fails when the server has had enough.
        let _ = stream.write_all(many.as_bytes()).await;
        pending::<()>().await;
    });
    assert!(matches!(served.await.expect("no panic"), Err(Error::TooSlow)));
    writing.abort();
    wire = Wire::open();
    drop(wire.close.take());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_in_the_end() {
    let mut wire = Wire::open();
    wire.say("GET / HTTP/1.1\r\n\r\n").await;
    wire.hear("ok").await;
    assert_eq!(wire.rest().await, "");
    wire.ended().await.expect("no error");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_finishes_what_it_has_and_waits_a_moment_for_a_first_request() {
    let mut wire = Wire::open();
    wire.say("POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\na").await;
    wire.hear("a").await;
    wire.close.take();
    wire.say("b").await;
    assert!(wire.rest().await.ends_with('b'));
    let mut wire = Wire::open();
    tokio::task::yield_now().await;
    wire.close.take();
    wire.say("GET / HTTP/1.1\r\n\r\n").await;
    assert!(wire.rest().await.ends_with("ok"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_is_noticed_at_once_whenever_it_does() {
    let began = tokio::time::Instant::now();
    // While it waits for the next request; together with a request; and while one is answered.
    for (before, after) in [("", ""), ("", "GET / HTTP/1.1\r\n\r\n"), ("POST /whole", "")] {
        let mut wire = Wire::open();
        for _ in 0..2 {
            wire.say("GET / HTTP/1.1\r\n\r\n").await;
            wire.hear("ok").await;
        }
        let is_asked = !before.is_empty();
        if is_asked {
            wire.say(&format!("{before} HTTP/1.1\r\nContent-Length: 1\r\n\r\n")).await;
            tokio::task::yield_now().await;
        }
        // The sender and the bytes wake the connection once for both.
        wire.close.take();
        if !after.is_empty() {
            wire.say(after).await;
        }
        if is_asked {
            tokio::task::yield_now().await;
            wire.say("x").await;
        }
        let answered = wire.rest().await;
        assert_eq!(answered.is_empty(), !is_asked && after.is_empty(), "{answered}");
    }
    assert!(began.elapsed().is_zero(), "a timer ran out instead: {:?}", began.elapsed());
}
