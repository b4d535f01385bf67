//! Tables: medians over rounds, and ratios within a round with an interval of 95 %.

use std::collections::HashMap;

use super::load::Figures;
use super::work::Work;

/// Figures of every round.
#[derive(Default)]
pub(crate) struct Report {
    rounds: HashMap<(Work, &'static str), Vec<Figures>>,
    /// In the order of their first slice.
    names: Vec<&'static str>,
}

/// A median, and where it lies in 95 of 100 such series (by order statistics, so nothing is assumed of how they are
/// spread).
struct Median {
    low: f64,
    middle: f64,
    high: f64,
}

impl Report {
    pub(crate) fn add(&mut self, work: Work, name: &'static str, figures: Figures) {
        if !self.names.contains(&name) {
            self.names.push(name);
        }
        self.rounds.entry((work, name)).or_default().push(figures);
    }

    pub(crate) fn print(&self, work: &[Work]) {
        println!("\n## CPU time, and its ratio to nginx's and to a bare Pingora proxy's\n");
        println!("| work | | µs each | ÷ nginx | ÷ bare | per second |");
        println!("|---|---|---:|---:|---:|---:|");
        for work in work {
            for name in self.names.iter().filter(|name| **name != "direct") {
                self.print_row(*work, name);
            }
        }
        if work.contains(&Work::Paced) {
            self.print_delays();
        }
    }

    fn print_row(&self, work: Work, name: &str) {
        let Some(own) = self.rounds.get(&(work, name)) else { return };
        let cpu = Median::of(own.iter().map(|figures| figures.cpu_us).collect());
        let rate = Median::of(own.iter().map(|figures| figures.per_second).collect());
        let ratio = |other: &str| match self.rounds.get(&(work, other)) {
            Some(others) if other != name => {
                let pairs = own.iter().zip(others);
                Median::of(pairs.map(|(own, other)| own.cpu_us / other.cpu_us).collect()).shown()
            }
            _ => "–".to_owned(),
        };
        println!(
            "| {} ({}) | {name} | {:.2} | {} | {} | {:.0} |",
            work.name(),
            work.unit(),
            cpu.middle,
            ratio("nginx"),
            ratio("bare"),
            rate.middle
        );
    }

    fn print_delays(&self) {
        println!(
            "\n## 1,000 streams at a pace: what is added to each chunk, and what each stream takes\n"
        );
        println!("| | p50, µs | added to p50 | p99, µs | KB a stream, first round |");
        println!("|---|---:|---:|---:|---:|");
        let median = |name: &str, pick: fn((f64, f64)) -> f64| {
            let own = self.rounds.get(&(Work::Paced, name)).into_iter().flatten();
            Median::of(own.filter_map(|figures| Some(pick(figures.delay_us?))).collect()).middle
        };
        let direct = median("direct", |delay| delay.0);
        for name in &self.names {
            let first = self.rounds.get(&(Work::Paced, name)).and_then(|own| own.first());
            let memory = first.and_then(|figures| figures.kb_per_stream);
            println!(
                "| {name} | {:.0} | {:+.0} | {:.0} | {} |",
                median(name, |delay| delay.0),
                median(name, |delay| delay.0) - direct,
                median(name, |delay| delay.1),
                memory.map_or_else(|| "–".to_owned(), |kb| format!("{kb:.0}"))
            );
        }
    }
}

impl Median {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let at = |place: usize| {
            values.get(place.min(count.saturating_sub(1))).copied().unwrap_or(f64::NAN)
        };
        // Of n paired rounds the k-th from either end bounds the median: k = n/2 - 0.98 √n, rounded down.
        let spread = (0.98 * (count as f64).sqrt()).ceil() as usize;
        let low = (count / 2).saturating_sub(spread);
        Self { low: at(low), middle: at(count / 2), high: at(count.saturating_sub(low + 1)) }
    }

    fn shown(&self) -> String {
        format!("{:.2} ({:.2}–{:.2})", self.middle, self.low, self.high)
    }
}

/// Memory before the first request.
pub(crate) fn print_idle(idle: &[(&'static str, u64)]) {
    println!("\n## Resident when idle\n");
    for (name, kb) in idle {
        println!("- {name}: {:.1} MB", *kb as f64 / 1024.0);
    }
}
