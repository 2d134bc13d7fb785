//! The commands themselves: input, output, exit codes.

use super::cases::{golden, read, values};
use std::fs;
use support::{Ended, folder, run};

/// Runs with one file of this text.
async fn with(flags: &[&str], text: &str) -> Ended {
    let folder = folder();
    let file = folder.path().join("app.yaml");
    fs::write(&file, text).expect("a file");
    let file = file.display().to_string();
    run(&[flags, &[file.as_str()]].concat()).await
}

fn manifest(name: &str) -> String {
    read(&golden().join("in").join(format!("{name}.yaml")))
}

#[tokio::test]
async fn check_prints_nothing_but_what_is_wrong_and_ends_with_78() {
    let good = with(&["inject", "--check"], &manifest("rails-puma")).await;
    assert_eq!((good.code, good.output.as_str()), (Some(0), ""), "{}", good.errors);
    for name in ["services-around", "unknown-annotations", "misplaced-annotations", "short-grace"] {
        let ended = with(&["inject", "--check"], &manifest(name)).await;
        assert_eq!((ended.code, ended.output.as_str()), (Some(78), ""), "{name}");
        assert!(ended.errors.contains("warning: "), "{}", ended.errors);
    }
}

#[tokio::test]
async fn every_document_that_is_no_yaml_is_named_with_its_line() {
    let text = "kind: Pod\n---\na: [\n---\nb: 1\nb: 2\n---\nc: *nowhere\n";
    for command in ["inject", "uninject"] {
        let ended = with(&[command], text).await;
        assert_eq!((ended.code, ended.output.as_str()), (Some(78), ""));
        for line in ["app.yaml:4", "app.yaml:6", "app.yaml:8"] {
            assert!(ended.errors.contains(line), "{command}: {line}: {}", ended.errors);
        }
    }
}

#[tokio::test]
async fn wrong_flags_are_64_and_their_values_78() {
    assert_eq!(run(&["inject", "--no-such-flag"]).await.code, Some(64));
    assert_eq!(run(&["inject", "--policy", "--container-mode"]).await.code, Some(64));
    let ended = run(&["inject", "--policy", "--cpu-limit", "two", "--rules", "My_Rules"]).await;
    assert_eq!(ended.code, Some(78));
    for flag in ["--cpu-limit", "--rules"] {
        assert!(ended.errors.contains(flag), "{}", ended.errors);
    }
    assert_eq!(run(&["inject", "/no/such/file"]).await.code, Some(78));
}

#[tokio::test]
async fn files_are_joined_by_marks_and_a_mark_is_not_doubled() {
    let folder = folder();
    let files = [("a.yaml", "kind: A\n"), ("b.yaml", "---\nkind: B\n"), ("c.yaml", "kind: C")];
    let mut arguments = vec!["inject".to_owned()];
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::write(&file, text).expect("a file");
        arguments.push(file.display().to_string());
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = run(&arguments).await;
    assert_eq!(ended.output, "kind: A\n---\nkind: B\n---\nkind: C\n");
}

#[tokio::test]
async fn aliases_that_multiply_end_in_a_fault_and_not_in_memory() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        let all = vec![below; 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{all}]\n"));
    }
    let ended = with(&["inject"], &text).await;
    assert_eq!(ended.code, Some(78), "{}", ended.errors);
    assert!(ended.errors.contains("nodes"), "{}", ended.errors);
}

#[tokio::test]
async fn a_document_that_begins_on_the_line_of_its_mark_stays_a_document() {
    let pod = r#"--- {apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: a, ports: [{name: http, containerPort: 80}]}]}}"#;
    let ended = with(&["inject"], &format!("kind: A\n{pod}\n---\nkind: B\n")).await;
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let kinds: Vec<String> =
        values(&ended.output).iter().map(|value| value["kind"].to_string()).collect();
    assert_eq!(kinds, ["\"A\"", "\"Pod\"", "\"B\""]);
}
