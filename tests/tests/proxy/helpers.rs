//! `examples/shards`: what applications copy to choose their database by `X-Shard`, behind a real sidecar.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use support::{PATIENCE, Spillway, system};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Of a helper: more is no longer read before it is copied.
const LINES_MAX: usize = 25;

/// The database of shard `b` is closed to writes; of `a` it refuses key 99 as a duplicate.
const RULES: &str = r#"
[[route]]
name = "ticks"
match = { path = "/ticks/{id}" }
shard = { map = "m", from = ["path:id"] }

[shard_map.m]
key_type = "int"
ranges = [{ from = 1, to = 9, shard = "a" }, { from = 10, to = 89, shard = "b" }, { from = 90, to = 99, shard = "a" }]
shards = { a = {}, b = {} }
"#;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/shards")
}

/// A server that prints where it listens.
async fn started(program: PathBuf, arguments: &[&str], inside: &str) -> (Child, String) {
    let mut command = Command::new(&program);
    command.args(arguments).current_dir(folder().join(inside));
    let child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn();
    let mut child = child.unwrap_or_else(|why| panic!("{}: {why}", program.display()));
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time");
    (child, line.expect("text").expect("a line"))
}

/// What every helper does. An answer says the shard, the rows in it, and the connections given back.
async fn keeps_the_contract(address: &str) {
    let sidecar = Spillway::proxy_to(RULES, address).start().await;
    let client = sidecar.client();
    let of = |id: u32| format!("/ticks/{id}");
    let said = async |method: &str, id: u32| {
        let answer = client.send(method, &of(id), "").await;
        assert_eq!(answer.status, 200, "{method} {id}: {}", answer.text());
        answer.text().trim_matches('"').to_owned()
    };
    assert_eq!(said("GET", 5).await, "a 0 0");
    assert_eq!(said("POST", 5).await, "a 1 1");
    assert_eq!(said("GET", 15).await, "b 0 0", "each shard has its own pool");

    let moved = client.send("POST", &of(15), "").await;
    assert_eq!((moved.status, moved.header("retry-after").as_str()), (503, "1"));
    assert_eq!(said("GET", 15).await, "b 0 2", "nothing was stored, and the connection came back");

    let twice = client.send("POST", &of(99), "").await;
    assert_eq!((twice.status, twice.header("retry-after").as_str()), (500, ""));
    assert_eq!(said("GET", 5).await, "a 1 3", "rolled back, and the connection came back");
}

#[tokio::test]
async fn the_helper_in_python_chooses_the_database_and_tells_a_moved_range_from_an_error() {
    let python = system("python3", "SPILLWAY_PYTHON");
    let (_server, address) = started(python, &["serve.py"], "python").await;
    keeps_the_contract(&address).await;
}

#[tokio::test]
async fn the_helper_in_javascript_chooses_the_database_and_tells_a_moved_range_from_an_error() {
    let node = system("node", "SPILLWAY_NODE");
    let (_server, address) = started(node, &["serve.mjs"], "node").await;
    keeps_the_contract(&address).await;
}

#[tokio::test]
async fn the_helper_in_java_chooses_the_database_and_tells_a_moved_range_from_an_error() {
    let classes = support::folder();
    let to = classes.path().display().to_string();
    let mut compiler = Command::new(system("javac", "SPILLWAY_JAVAC"));
    compiler.args(["-d", &to, "ByShard.java", "Serve.java"]).current_dir(folder().join("java"));
    let compiled = compiler.status().await.expect("javac of a JDK 17 or later");
    assert!(compiled.success(), "javac: {compiled}");
    let java = system("java", "SPILLWAY_JAVA");
    let (_server, address) = started(java, &["-cp", &to, "Serve"], "java").await;
    keeps_the_contract(&address).await;
}

#[test]
fn a_helper_is_short_enough_to_be_read_before_it_is_copied() {
    for file in ["python/by_shard.py", "node/by-shard.mjs", "java/ByShard.java"] {
        let text = std::fs::read_to_string(folder().join(file)).expect("a helper");
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{file}: {lines} lines");
    }
}
