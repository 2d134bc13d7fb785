//! The function and its inverse on pods of every shape.

use crate::generator::a_pod;
use inject::form::Form;
use inject::patch::{self, Operation};
use inject::{Mode, Options, Outcome, inject, uninject, update};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::json;

fn an_option() -> impl Strategy<Value = Options> {
    prop::bool::ANY.prop_map(|is_native| Options {
        mode: if is_native { Mode::Native } else { Mode::Container },
        env_secret: Some("spillway".to_owned()),
        ..Options::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn uninject_gives_back_exactly_what_there_was(pod in a_pod(), options in an_option()) {
        if let Outcome::Injected { pod: injected, .. } = inject(&pod, &options).outcome {
            prop_assert_eq!(uninject(&injected), Some(pod));
        }
    }

    #[test]
    fn a_second_injection_changes_nothing(pod in a_pod(), options in an_option()) {
        if let Outcome::Injected { pod: injected, .. } = inject(&pod, &options).outcome {
            prop_assert_eq!(&inject(&injected, &Options::default()).outcome, &Outcome::Already);
            prop_assert_eq!(update(&injected, &options).outcome, Outcome::Already);
        }
    }

    #[test]
    fn an_update_gives_what_a_first_injection_would(pod in a_pod(), options in an_option()) {
        let newer = Options { image: "spillway:2".to_owned(), ..options.clone() };
        if let Outcome::Injected { pod: injected, .. } = inject(&pod, &options).outcome {
            prop_assert_eq!(update(&injected, &newer).outcome, inject(&pod, &newer).outcome);
        }
    }

    #[test]
    fn nothing_that_the_form_describes_is_refused(
        name in "[a-z0-9]([a-z0-9.-]*[a-z0-9])?",
        quantity in "[0-9]+([.][0-9]+)?(m|[kMGT]|[KMGT]i)?",
        proxies in "(none|(private|[0-9a-f.:]+(/[0-9]+)?)(,(private|[0-9a-f.:]+(/[0-9]+)?)){0,2})",
        port in "([1-9][0-9]{0,4}|[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?)",
    ) {
        prop_assert!(Form::Name.fits(&name));
        prop_assert!(Form::Quantity.fits(&quantity));
        prop_assert!(Form::Port.fits(&port));
        prop_assert!(Form::Proxies.fits(&proxies));
    }
}

#[test]
fn the_generated_pods_are_of_both_kinds() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut counts = [0, 0];
    for _ in 0..1000 {
        let pod = a_pod().new_tree(&mut runner).expect("a pod").current();
        let outcome = inject(&pod, &Options::default()).outcome;
        counts[usize::from(matches!(outcome, Outcome::Injected { .. }))] += 1;
    }
    assert!(counts.iter().all(|count| *count > 200), "refused, injected: {counts:?}");
}

#[test]
fn the_patch_alone_makes_the_injected_pod() {
    let pod = json!({ "spec": { "containers": [{ "name": "web", "ports": [{ "containerPort": 80, "name": "http" }] }] } });
    let Outcome::Injected { pod: injected, patch } = inject(&pod, &Options::default()).outcome
    else {
        panic!("not injected");
    };
    let mut patched = pod.clone();
    patch::apply(&mut patched, &patch);
    assert_eq!(patched, injected);
    assert_eq!(patch[0], Operation::Add("/spec/initContainers".to_owned(), json!([])));
}
