//! `cargo xtask dashboard`: the panels below become `k8s/dashboard/spillway.json`, a Grafana
//! dashboard. JSON of that size is read by no one and merged by no one; this table is.

use crate::setup::{self, Result};
use serde_json::{Value, json};
use std::fs;

mod panels;

const FILE: &str = "k8s/dashboard/spillway.json";
/// What Grafana 10 and later write; older schemas are upgraded when they are loaded.
const SCHEMA_VERSION: u32 = 39;
/// The grid of a dashboard is 24 wide; panels stand three in a row.
const WIDTH: usize = 8;
const HEIGHT: usize = 8;
/// In place of `$pods`: the pods that were chosen above the panels.
const PODS: &str = r#"namespace=~"$namespace",job=~"$job""#;

/// A row with its title.
struct Row {
    title: &'static str,
    panels: &'static [Panel],
}

/// One graph.
struct Panel {
    title: &'static str,
    /// What a reader should know; shown behind the `i`.
    help: &'static str,
    unit: Unit,
    /// PromQL and the legend of its lines.
    queries: &'static [(&'static str, &'static str)],
}

/// Grafana's names of units.
#[derive(Clone, Copy)]
enum Unit {
    PerSecond,
    Seconds,
    Share,
    Bytes,
    Count,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "cps",
            Self::Seconds => "s",
            Self::Share => "percentunit",
            Self::Bytes => "bytes",
            Self::Count => "short",
        }
    }
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let is_check = match arguments {
        [] => false,
        [only] if only == "--check" => true,
        _ => return Err("usage: cargo xtask dashboard [--check]".to_owned()),
    };
    let file = setup::root().join(FILE);
    let text = format!("{:#}\n", dashboard());
    if is_check {
        let is_same = fs::read_to_string(&file).is_ok_and(|old| old == text);
        return if is_same {
            Ok(())
        } else {
            Err(format!("{FILE} is old: `cargo xtask dashboard`"))
        };
    }
    fs::write(&file, text).map_err(|why| format!("{}: {why}", file.display()))
}

fn dashboard() -> Value {
    json!({
        "uid": "spillway",
        "title": "Spillway",
        "tags": ["spillway"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": { "from": "now-1h", "to": "now" },
        "templating": { "list": [
            {
                "name": "datasource",
                "label": "Data source",
                "type": "datasource",
                "query": "prometheus",
            },
            variable("namespace", "Namespace", "label_values(spillway_build_info, namespace)"),
            variable("job", "Job", r#"label_values(spillway_build_info{namespace=~"$namespace"}, job)"#),
        ] },
        "annotations": { "list": [map_changes()] },
        "panels": panels(),
    })
}

/// A choice of one, several or all values of a label.
fn variable(name: &str, label: &str, query: &str) -> Value {
    json!({
        "name": name,
        "label": label,
        "type": "query",
        "datasource": source(),
        "query": { "query": query, "refId": name },
        "refresh": 2,
        "sort": 1,
        "multi": true,
        "includeAll": true,
        "allValue": ".*",
        "current": { "text": "All", "value": "$__all" },
    })
}

/// Changes of shard maps, through all panels: what rises or falls there has its reason.
fn map_changes() -> Value {
    json!({
        "name": "Shard maps",
        "datasource": source(),
        "enable": true,
        "iconColor": "blue",
        "expr": panels::MAP_CHANGES.replace("$pods", PODS),
        "step": "60s",
        "titleFormat": "shard map {{map}} changed",
    })
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn panels() -> Vec<Value> {
    let (mut all, mut y) = (Vec::new(), 0);
    for row in panels::ROWS {
        all.push(json!({
            "type": "row",
            "title": row.title,
            "collapsed": false,
            "panels": [],
            "gridPos": { "x": 0, "y": y, "w": 24, "h": 1 },
        }));
        y += 1;
        for (at, panel) in row.panels.iter().enumerate() {
            let (x, below) = (at % (24 / WIDTH) * WIDTH, at / (24 / WIDTH) * HEIGHT);
            let place = json!({ "x": x, "y": y + below, "w": WIDTH, "h": HEIGHT });
            all.push(graph(panel, &place));
        }
        y += row.panels.len().div_ceil(24 / WIDTH) * HEIGHT;
    }
    all
}

fn graph(panel: &Panel, place: &Value) -> Value {
    let targets: Vec<Value> = panel
        .queries
        .iter()
        .zip('A'..)
        .map(|((expr, legend), id)| {
            json!({
                "refId": id,
                "datasource": source(),
                "expr": expr.replace("$pods", PODS),
                "legendFormat": legend,
            })
        })
        .collect();
    json!({
        "type": "timeseries",
        "title": panel.title,
        "description": panel.help,
        "datasource": source(),
        "gridPos": place,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit.name(),
                "min": 0,
                "custom": { "fillOpacity": 10, "showPoints": "never" },
            },
            "overrides": [],
        },
        "options": {
            "legend": { "displayMode": "list", "placement": "bottom" },
            "tooltip": { "mode": "multi", "sort": "desc" },
        },
        "targets": targets,
    })
}
