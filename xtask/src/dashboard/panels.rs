//! What the dashboard shows. `$pods` stands for the chosen pods, `$__rate_interval` is Grafana's.
//! tests/tests/kubernetes/dashboard.rs asks a real Prometheus every one of these questions.

use super::Unit::{Bytes, Count, PerSecond, Seconds, Share};
use super::{Panel, Row};

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row { title: "Requests", panels: &[
        Panel {
            title: "Requests by route", unit: PerSecond,
            help: "What came in, answered by whom ever: cache, application or Spillway itself.",
            queries: &[("sum by (route) (rate(spillway_http_requests_total{$pods}[$__rate_interval]))", "{{route}}")],
        },
        Panel {
            title: "Errors by route", unit: PerSecond,
            help: "5xx only.",
            queries: &[(r#"sum by (route) (rate(spillway_http_requests_total{$pods,code="5xx"}[$__rate_interval]))"#, "{{route}}")],
        },
        Panel {
            title: "Time to answer, 95th percentile", unit: Seconds,
            help: "From request head to response head. Offloaded requests are answered with 202.",
            queries: &[("histogram_quantile(0.95, sum by (le, route) (rate(spillway_http_request_duration_seconds_bucket{$pods}[$__rate_interval])))", "{{route}}")],
        },
        Panel {
            title: "In flight", unit: Count,
            help: "",
            queries: &[
                ("sum(spillway_http_requests_in_flight{$pods})", "requests"),
                ("sum(spillway_connections_open{$pods})", "client connections"),
            ],
        },
        Panel {
            title: "Refused by Spillway", unit: PerSecond,
            help: "docs/operating.md says what each problem means.",
            queries: &[("sum by (route, problem) (rate(spillway_problems_total{$pods}[$__rate_interval]))", "{{route}} {{problem}}")],
        },
        Panel {
            title: "Upstream errors", unit: PerSecond,
            help: "--app is the application in the pod.",
            queries: &[("sum by (upstream, reason) (rate(spillway_upstream_errors_total{$pods}[$__rate_interval]))", "{{upstream}} {{reason}}")],
        },
    ] },
    Row { title: "Cache", panels: &[
        Panel {
            title: "Answered by the cache", unit: Share,
            help: "Of the requests that it may answer: bypassed ones are left out.",
            queries: &[(r#"sum by (route) (rate(spillway_cache_requests_total{$pods,result=~"hit|stale|stale-on-error|revalidated|collapsed"}[$__rate_interval])) / sum by (route) (rate(spillway_cache_requests_total{$pods,result!="bypass"}[$__rate_interval]))"#, "{{route}}")],
        },
        Panel {
            title: "What the cache did", unit: PerSecond,
            help: "",
            queries: &[("sum by (result) (rate(spillway_cache_requests_total{$pods}[$__rate_interval]))", "{{result}}")],
        },
        Panel {
            title: "Not stored, and why", unit: PerSecond,
            help: "docs/rules.md explains the reasons.",
            queries: &[("sum by (route, reason) (rate(spillway_cache_not_stored_total{$pods}[$__rate_interval]))", "{{route}} {{reason}}")],
        },
        Panel {
            title: "Size", unit: Bytes,
            help: "Of each pod; --cache-mib is the limit.",
            queries: &[("max by (pod, instance) (spillway_cache_size_bytes{$pods})", "{{pod}} {{instance}}")],
        },
        Panel {
            title: "Keys", unit: Count,
            help: "",
            queries: &[("sum(spillway_cache_entries{$pods})", "keys")],
        },
        Panel {
            title: "Evicted for want of space", unit: PerSecond,
            help: "More than a few: a larger --cache-mib, or fewer parameters in the key.",
            queries: &[("sum(rate(spillway_cache_evictions_total{$pods}[$__rate_interval]))", "keys")],
        },
    ] },
    Row { title: "Shards", panels: &[
        Panel {
            title: "Requests by shard", unit: PerSecond,
            help: "Where they came in; what one sidecar sends to another is one request.",
            queries: &[("sum by (map, shard) (rate(spillway_shard_requests_total{$pods}[$__rate_interval]))", "{{map}} {{shard}}")],
        },
        Panel {
            title: "Load by range", unit: PerSecond,
            help: "By lower bound; of text keys eight hex digits, which `spillway shards show` explains. One line far above the others: split it, or move a neighbour away.",
            queries: &[("topk(20, sum by (map, range) (rate(spillway_shard_range_requests_total{$pods}[$__rate_interval])))", "{{map}} {{range}}")],
        },
        Panel {
            title: "Load against a fair share", unit: Count,
            help: "1 is fair. SpillwayHotShard fires above 1.7.",
            queries: &[("sum by (map, shard) (rate(spillway_shard_requests_total{$pods}[$__rate_interval])) / on (map) group_left () avg by (map) (sum by (map, shard) (rate(spillway_shard_requests_total{$pods}[$__rate_interval])))", "{{map}} {{shard}}")],
        },
        Panel {
            title: "Time to answer by shard, 95th percentile", unit: Seconds,
            help: "From request head to response head. One line above the others: that shard's database is slower, not the application.",
            queries: &[("histogram_quantile(0.95, sum by (le, map, shard) (rate(spillway_shard_request_duration_seconds_bucket{$pods}[$__rate_interval])))", "{{map}} {{shard}}")],
        },
        Panel {
            title: "Epoch of the maps", unit: Count,
            help: "Two lines of one map: pods disagree.",
            queries: &[
                ("max by (map) (spillway_shard_map_epoch{$pods})", "{{map}} newest"),
                ("min by (map) (spillway_shard_map_epoch{$pods})", "{{map}} oldest"),
            ],
        },
        Panel {
            title: "Epochs behind the newest", unit: Count,
            help: "Who is behind: a moment after each change, and for as long as a pod reaches neither store nor coordinator.",
            queries: &[("max by (map) (spillway_shard_map_epoch{$pods}) - on (map) group_right () max by (map, pod, instance) (spillway_shard_map_epoch{$pods})", "{{map}} {{pod}} {{instance}}")],
        },
        Panel {
            title: "Maps last confirmed by the store", unit: Seconds,
            help: "The oldest look of a pod; about --map-poll while all is well.",
            queries: &[("max by (map) (spillway_shard_map_age_seconds{$pods})", "{{map}}")],
        },
        Panel {
            title: "Ranges that move", unit: Count,
            help: "Announced: jobs wait. Fenced: writes wait, too. SpillwayRangeFenced fires after 30 s.",
            queries: &[("max by (map, range, state) (spillway_shard_range_state{$pods})", "{{map}} {{range}} {{state}}")],
        },
        Panel {
            title: "Writes held back", unit: Count,
            help: "While their range is fenced, all pods together.",
            queries: &[("sum by (map) (spillway_shard_held{$pods})", "{{map}}")],
        },
        Panel {
            title: "How long writes were held, 95th percentile", unit: Seconds,
            help: "What a move costs its clients; over the map's hold.time they are refused.",
            queries: &[("histogram_quantile(0.95, sum by (le, map) (rate(spillway_shard_held_seconds_bucket{$pods}[$__rate_interval])))", "{{map}}")],
        },
    ] },
    Row { title: "Jobs", panels: &[
        Panel {
            title: "Offered to a queue", unit: PerSecond,
            help: "By result and why: a result other than queued, adopted and inline is a refusal.",
            queries: &[("sum by (result, reason) (rate(spillway_offload_requests_total{$pods}[$__rate_interval]))", "{{result}} {{reason}}")],
        },
        Panel {
            title: "Time until a job is durable, 95th percentile", unit: Seconds,
            help: "What a client waits for its 202.",
            queries: &[("histogram_quantile(0.95, sum by (le, route) (rate(spillway_offload_enqueue_duration_seconds_bucket{$pods}[$__rate_interval])))", "{{route}}")],
        },
        Panel {
            title: "Learned time of slow routes", unit: Seconds,
            help: "95th percentile of a route's slowest class; above `after` its requests are queued.",
            queries: &[("max by (route) (spillway_offload_learned_p95_seconds{$pods})", "{{route}}")],
        },
        Panel {
            title: "Messages", unit: Count,
            help: "Every pod reports the whole queue, so this is the greatest report.",
            queries: &[("max by (queue, state) (spillway_queue_messages{$pods})", "{{queue}} {{state}}")],
        },
        Panel {
            title: "Oldest message", unit: Seconds,
            help: "SpillwayOldestJobTooOld fires above 15 minutes.",
            queries: &[("max by (queue) (spillway_queue_oldest_message_age_seconds{$pods})", "{{queue}}")],
        },
        Panel {
            title: "Running", unit: Count,
            help: "",
            queries: &[("sum by (queue) (spillway_jobs_running{$pods})", "{{queue}}")],
        },
        Panel {
            title: "Refused for good", unit: Count,
            help: "Calls of queue, results and spool, by pods. SpillwayOffloadRefused fires after 2 minutes.",
            queries: &[("sum by (part, queue, call, reason) (spillway_offload_fault{$pods}) or vector(0)", "{{part}} {{queue}} {{call}} {{reason}}")],
        },
        Panel {
            title: "Upstreams that take a consumer's connections", unit: Count,
            help: "0: its jobs wait for it. SpillwayAppAway fires after 5 minutes.",
            queries: &[("min by (upstream) (spillway_consumer_app_up{$pods})", "{{upstream}}")],
        },
        Panel {
            title: "Ended or put back", unit: PerSecond,
            help: "docs/operating.md explains outcomes and reasons.",
            queries: &[("sum by (queue, outcome, reason) (rate(spillway_jobs_total{$pods}[$__rate_interval]))", "{{queue}} {{outcome}} {{reason}}")],
        },
        Panel {
            title: "Time of jobs, 95th percentile", unit: Seconds,
            help: "",
            queries: &[
                ("histogram_quantile(0.95, sum by (le, queue) (rate(spillway_job_wait_duration_seconds_bucket{$pods}[$__rate_interval])))", "{{queue}} waiting"),
                ("histogram_quantile(0.95, sum by (le, queue) (rate(spillway_job_run_duration_seconds_bucket{$pods}[$__rate_interval])))", "{{queue}} running"),
            ],
        },
        Panel {
            title: "Notifications", unit: PerSecond,
            help: "",
            queries: &[("sum by (queue, result) (rate(spillway_notifications_total{$pods}[$__rate_interval]))", "{{queue}} {{result}}")],
        },
    ] },
    Row { title: "Pods", panels: &[
        Panel {
            title: "Rules in force", unit: Count,
            help: "Pods by config_hash: two for longer than a minute, and one refuses the new rules.",
            queries: &[("count by (config_hash) (spillway_rules_info{$pods})", "{{config_hash}}")],
        },
        Panel {
            title: "Versions", unit: Count,
            help: "",
            queries: &[("count by (job, version) (spillway_build_info{$pods})", "{{job}} {{version}}")],
        },
        Panel {
            title: "Changes of the rules file", unit: Count,
            help: "In the last hour.",
            queries: &[("sum by (result) (increase(spillway_rules_reloads_total{$pods}[1h]))", "{{result}}")],
        },
        Panel {
            title: "What rules in observe mode would have done", unit: PerSecond,
            help: "",
            queries: &[("sum by (route, rule, outcome) (rate(spillway_observed_total{$pods}[$__rate_interval]))", "{{route}} {{rule}} {{outcome}}")],
        },
    ] },
];

/// What is drawn as a line through all panels: a range has a new owner, or is about to. Windows overlap, so
/// that no change falls between two of them.
pub(super) const MAP_CHANGES: &str =
    "max by (map) (changes(spillway_shard_map_epoch{$pods}[2m])) > 0";
