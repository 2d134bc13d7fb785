//! The admission policy, carried out by Google's CEL.

use super::cases::{cases, checked_in, pods, values};
use super::generator::a_pod;
use inject::{Options, Outcome};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use support::{Manifests, folder, python, run};

/// As many as the evaluator does in about 10 s.
const RANDOM_PODS: usize = 300;

#[tokio::test]
async fn the_policy_that_is_checked_in_is_what_the_program_makes_and_is_valid() {
    let ended = run(&["inject", "--policy"]).await;
    checked_in("k8s/policy/policy.yaml", &ended.output);
    let policy = Manifests::new(ended.output).await;
    assert_eq!(policy.faults(&["1.36", "1.37"]).await, Vec::<String>::new());
}

/// The policy for these flags, as an object.
async fn policy(flags: &[String]) -> Value {
    let mut arguments = vec!["inject", "--policy"];
    arguments.extend(flags.iter().map(String::as_str));
    let ended = run(&arguments).await;
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    values(&ended.output).swap_remove(0)
}

/// A pod as it arrives at the API server: `metadata` is always there.
fn arriving(mut pod: Value) -> Value {
    if pod.get("metadata").is_none() {
        pod["metadata"] = serde_json::json!({});
    }
    pod
}

#[tokio::test]
async fn the_admission_policy_makes_the_same_pods_and_leaves_the_same_pods_alone() {
    let mut by_flags: BTreeMap<Vec<String>, Vec<(String, Value)>> = BTreeMap::new();
    for case in cases() {
        let is_native = !case.flags.contains(&"--container-mode".to_owned());
        for pod in pods(&case.text).into_iter().filter(|_| is_native) {
            let with_name = (case.name.clone(), arriving(pod));
            by_flags.entry(case.flags.clone()).or_default().push(with_name);
        }
    }
    let mut counts = (0, 0);
    for (flags, pods) in by_flags {
        let pods: Vec<_> = pods.into_iter().filter(|(_, pod)| has_containers(pod)).collect();
        let inputs: Vec<&Value> = pods.iter().map(|(_, pod)| pod).collect();
        let (others, is_opt_in) = without_opt_in(&flags);
        let namespace = if is_opt_in { "opt-in" } else { "enabled" };
        let results = evaluated(&policy(&others).await, &inputs, namespace).await;
        assert_eq!(results.len(), pods.len());
        for ((name, pod), result) in pods.iter().zip(results) {
            let wanted = match inject::inject(pod, &options(&flags)).outcome {
                Outcome::Injected { pod, .. } => pod,
                _ => pod.clone(),
            };
            assert_eq!(result, wanted, "{name}");
            let count = if wanted == *pod { &mut counts.1 } else { &mut counts.0 };
            *count += 1;
        }
    }
    assert!(counts.0 >= 30 && counts.1 >= 15, "injected, left alone: {counts:?}");
}

#[tokio::test]
async fn the_admission_policy_agrees_with_the_function_on_pods_of_every_shape() {
    let mut runner = TestRunner::deterministic();
    let mut draw = || arriving(a_pod().new_tree(&mut runner).expect("a pod").current());
    let pods: Vec<Value> = (0..RANDOM_PODS).map(|_| draw()).collect();
    let inputs: Vec<&Value> = pods.iter().collect();
    let results = evaluated(&policy(&[]).await, &inputs, "enabled").await;
    for (pod, result) in pods.iter().zip(results) {
        let wanted = match inject::inject(pod, &options(&[])).outcome {
            Outcome::Injected { pod, .. } => pod,
            _ => pod.clone(),
        };
        assert_eq!(result, wanted, "{pod}");
    }
}

/// The API server refuses a pod without any before a policy sees it.
fn has_containers(pod: &Value) -> bool {
    pod.pointer("/spec/containers/0").is_some()
}

/// What the policy makes of the pods in a namespace with this label, by Google's CEL.
async fn evaluated(policy: &Value, pods: &[&Value], namespace: &str) -> Vec<Value> {
    let folder = folder();
    let file = folder.path().join("cases.json");
    let input = serde_json::json!({ "policy": policy, "pods": pods, "namespace": namespace });
    fs::write(&file, input.to_string()).expect("a file");
    let environment = [("CASES".to_owned(), file.display().to_string())];
    let output = python(include_str!("evaluate.py"), &environment).await;
    serde_json::from_str(&output).expect("JSON")
}

/// The policy itself looks at its namespace.
fn without_opt_in(flags: &[String]) -> (Vec<String>, bool) {
    let others: Vec<String> = flags.iter().filter(|flag| *flag != "--opt-in").cloned().collect();
    let is_opt_in = others.len() < flags.len();
    (others, is_opt_in)
}

/// The options that the program takes from these flags.
fn options(flags: &[String]) -> Options {
    let (flags, is_opt_in) = without_opt_in(flags);
    let mut options = Options { is_admission: true, is_opt_in, ..Options::default() };
    for pair in flags.chunks(2) {
        let [flag, value] = pair else { panic!("{flags:?}: flags and values only") };
        match flag.as_str() {
            "--image" => options.image.clone_from(value),
            "--env-config" => options.env_config = Some(value.clone()),
            "--env-secret" => options.env_secret = Some(value.clone()),
            "--cpu-limit" => options.cpu_limit.clone_from(value),
            "--pull-secrets" => options.pull_secrets.clone_from(value),
            "--args" => options.args = vec![value.clone()],
            other => panic!("the tests do not know {other}"),
        }
    }
    options
}
