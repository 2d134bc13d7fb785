//! The figures as a table and as a picture.

use crate::durable::Durable;
use crate::systems::{Consumed, System};
use crate::{RATE, SECONDS};
use std::fmt::Write;
use std::time::Duration;

struct Row {
    system: System,
    enqueue_cpu_us: f64,
    p50_ms: f64,
    p99_ms: f64,
    consume_cpu_us: f64,
    jobs_per_second: f64,
}

/// A title and the figure it is about.
type Chart = (&'static str, fn(&Row) -> f64);

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    pub(crate) durable: Option<Durable>,
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
}

impl Report {
    pub(crate) fn enqueued(&mut self, system: System, cpu: Duration, latencies: &[Duration]) {
        self.rows.push(Row {
            system,
            enqueue_cpu_us: micros(cpu) / latencies.len() as f64,
            p50_ms: percentile(latencies, 50),
            p99_ms: percentile(latencies, 99),
            consume_cpu_us: 0.0,
            jobs_per_second: 0.0,
        });
    }

    pub(crate) fn consumed(&mut self, system: System, consumed: &Consumed, jobs: u32) {
        let row = self.rows.iter_mut().find(|row| row.system == system).expect("enqueued before");
        row.consume_cpu_us = micros(consumed.cpu) / f64::from(jobs);
        row.jobs_per_second = f64::from(jobs) / consumed.took.as_secs_f64();
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "Enqueue to 202 at {RATE} requests/s for {SECONDS} s, then all jobs consumed, 4 at a time.\n\n\
             | system | CPU per 202, µs | p50, ms | p99, ms | CPU per job, µs | jobs/s |\n\
             |---|---|---|---|---|---|\n"
        );
        for row in &self.rows {
            let Row { enqueue_cpu_us, p50_ms, p99_ms, consume_cpu_us, jobs_per_second, .. } = row;
            let name = row.system.name();
            // Writing to a String can't fail.
            let _ = writeln!(
                text,
                "| {name} | {enqueue_cpu_us:.0} | {p50_ms:.1} | {p99_ms:.1} | {consume_cpu_us:.0} | {jobs_per_second:.0} |"
            );
        }
        if let Some(Durable { queue, raw }) = &self.durable {
            let _ = write!(
                text,
                "\nDurable sends by 64 clients on the same disk: {queue:.0}/s, raw batched SQLite {raw:.0}/s: {:.2} of it.",
                queue / raw
            );
        }
        text
    }

    /// Two rows of bars: CPU per 202 and per job.
    pub(crate) fn svg(&self) -> String {
        const WIDTH: f64 = 720.0;
        const LINE: f64 = 26.0;
        const LEFT: f64 = 190.0;
        let charts: [Chart; 2] = [
            ("CPU per request answered 202, µs", |row| row.enqueue_cpu_us),
            ("CPU per job consumed, µs", |row| row.consume_cpu_us),
        ];
        let height = 2.0 * (LINE * (self.rows.len() as f64 + 2.0));
        let mut svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' font-family='system-ui,sans-serif' font-size='13'>\
             <rect width='100%' height='100%' fill='white'/>\n"
        );
        let mut y = 0.0;
        for (title, value) in charts {
            y += LINE;
            let _ = writeln!(svg, "<text x='10' y='{y}' font-weight='bold'>{title}</text>");
            let most = self.rows.iter().map(value).fold(1.0, f64::max);
            for row in &self.rows {
                y += LINE;
                let (name, value) = (row.system.name(), value(row));
                let width = (WIDTH - LEFT - 70.0) * value / most;
                let is_ours = matches!(row.system, System::Embedded | System::Sqs);
                let (fill, top) = (if is_ours { "#1769c9" } else { "#b8bec6" }, y - 14.0);
                let _ = writeln!(
                    svg,
                    "<text x='{}' y='{y}' text-anchor='end'>{name}</text>\
                     <rect x='{LEFT}' y='{top}' width='{width:.1}' height='18' fill='{fill}'/>\
                     <text x='{:.1}' y='{y}'>{value:.0}</text>",
                    LEFT - 8.0,
                    LEFT + width + 6.0
                );
            }
            y += LINE;
        }
        svg.push_str("</svg>\n");
        svg
    }
}
