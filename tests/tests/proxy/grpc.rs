//! gRPC through the sidecar: the library of its makers at both ends, HTTP/2 in the clear.

use support::{Script, Spillway, program, python};

/// Methods without generated code: bytes in, bytes out.
const SERVER: &str = r#"
import grpc
from concurrent import futures

def one(request, context):
    context.send_initial_metadata((("x-first", "1"),))
    context.set_trailing_metadata((("x-last", "2"),))
    return request.upper()

def none(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")

def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()

def total(requests, context):
    return str(sum(int(request) for request in requests)).encode()

def talk(requests, context):
    for request in requests:
        yield b"re: " + request

methods = {
    "One": grpc.unary_unary_rpc_method_handler(one),
    "None": grpc.unary_unary_rpc_method_handler(none),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "Talk": grpc.stream_stream_rpc_method_handler(talk),
}
server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.Test", methods),))
print("127.0.0.1:%d" % server.add_insecure_port("127.0.0.1:0"))
server.start()
server.wait_for_termination()
"#;

const RULES: &str = r#"
    [[route]]
    name  = "grpc"
    match = { path = "/t.Test/{method}", methods = ["POST"] }
"#;

async fn called(lines: &str) -> String {
    let app = Script::start(SERVER).await;
    let sidecar = Spillway::proxy_to(RULES, &format!("h2c://{}", app.address))
        .with("--drain-delay", "1")
        .start()
        .await;
    let address = [
        ("ADDRESS", sidecar.address().to_owned()),
        ("ADMIN", sidecar.admin_address().to_owned()),
        ("SPILLWAY", program().display().to_string()),
    ];
    let address = address.map(|(name, value)| (name.to_owned(), value));
    let client = "import grpc, os, queue\nchannel = grpc.insecure_channel(os.environ['ADDRESS'])\n";
    python(&format!("{client}{lines}"), &address).await
}

#[tokio::test]
async fn a_call_has_its_answer_with_metadata_before_and_after() {
    let lines = r#"
answer, call = channel.unary_unary("/t.Test/One").with_call(b"hello", timeout=10)
print(answer.decode(), dict(call.initial_metadata())["x-first"], dict(call.trailing_metadata())["x-last"])
"#;
    assert_eq!(called(lines).await, "HELLO 1 2");
}

#[tokio::test]
async fn a_failure_arrives_with_its_code_and_words() {
    let lines = r#"
try:
    channel.unary_unary("/t.Test/None")(b"", timeout=10)
except grpc.RpcError as error:
    print(error.code().name, error.details())
"#;
    assert_eq!(called(lines).await, "FAILED_PRECONDITION not today");
}

#[tokio::test]
async fn streams_go_both_ways() {
    let lines = r#"
print(len(list(channel.unary_stream("/t.Test/Count")(b"1000", timeout=20))))
numbers = (str(number).encode() for number in range(1000))
print(channel.stream_unary("/t.Test/Total")(numbers, timeout=20).decode())
"#;
    assert_eq!(called(lines).await, "1000\n499500");
}

#[tokio::test]
async fn a_dialogue_is_not_held_back() {
    // Each line is sent only when the answer to the one before has come.
    let lines = r#"
lines = queue.Queue()
answers = channel.stream_stream("/t.Test/Talk")(iter(lines.get, None), timeout=20)
for number in range(3):
    lines.put(b"%d" % number)
    print(next(answers).decode())
lines.put(None)
print(len(list(answers)))
"#;
    assert_eq!(called(lines).await, "re: 0\nre: 1\nre: 2\n0");
}

#[tokio::test]
async fn a_stream_goes_on_after_the_hook_that_drains_and_a_silent_one_does_not_hold_it_up() {
    let lines = r#"
import subprocess, time

def talk():
    requests = queue.Queue()
    return requests, channel.stream_stream("/t.Test/Talk")(iter(requests.get, None), timeout=50)

spoken, answers = talk()
spoken.put(b"a")
first = next(answers)
silent, unanswered = talk()
began = time.monotonic()
hook = subprocess.run([os.environ["SPILLWAY"], "drain", "--admin", os.environ["ADMIN"]])
is_early = time.monotonic() - began < 20
spoken.put(b"b")
silent.put(b"c")
print(hook.returncode, is_early, first, next(answers), next(unanswered))
"#;
    assert_eq!(called(lines).await, "0 True b're: a' b're: b' b're: c'");
}
