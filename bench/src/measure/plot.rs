//! Latency by percentile as one page that needs nothing else: the x axis in nines, the y axis logarithmic.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::driver::Record;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 50.0;
/// Up to 99.9999 %.
const NINES: f64 = 6.0;
const STEPS: u32 = 240;
const COLOURS: [&str; 8] =
    ["#0b62a4", "#7a92a3", "#c2410c", "#d9a441", "#15803d", "#86a886", "#7e22ce", "#b39ac9"];

/// One line of the plot: the latencies of all runs together.
pub(crate) struct Curve {
    name: String,
    latency: Histogram<u64>,
}

impl Curve {
    pub(crate) fn new(name: &str) -> Curve {
        Curve { name: name.to_string(), latency: Record::new().latency }
    }

    /// Adds a run.
    pub(crate) fn add(&mut self, run: &Histogram<u64>) {
        // All histograms of this program have the same bounds, so they fit.
        let _ = self.latency.add(run);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.latency.is_empty()
    }

    /// Nines and ns, up to where one message decides.
    fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let last = (self.latency.len() as f64).log10().min(NINES);
        (0..=STEPS).map(move |step| {
            let nines = last * f64::from(step) / f64::from(STEPS);
            let quantile = 1.0 - 10f64.powf(-nines);
            (nines, self.latency.value_at_quantile(quantile).max(1) as f64)
        })
    }
}

/// The page: the plot above `table`.
pub(crate) fn page<'a>(curves: impl Iterator<Item = &'a Curve>, table: &str) -> String {
    let curves: Vec<_> = curves.collect();
    let mut text = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>mstream-bench</title>\n\
         <style>body{font-family:sans-serif;margin:2em}pre{font-size:13px}</style></head><body>\n\
         <h1>Latency by percentile</h1>\n",
    );
    // Writing to a string does not fail.
    let _ = svg(&mut text, &curves);
    text.push_str(&format!("<pre>{}</pre>\n</body></html>\n", escaped(table)));
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Decades of ns that hold all curves.
fn decades(curves: &[&Curve]) -> (f64, f64) {
    let all = || curves.iter().flat_map(|curve| curve.points()).map(|(_, ns)| ns.log10());
    let low = all().fold(f64::MAX, f64::min).floor();
    let high = all().fold(0.0, f64::max).ceil();
    if low < high { (low, high) } else { (0.0, 1.0) }
}

fn svg(text: &mut String, curves: &[&Curve]) -> std::fmt::Result {
    let (low, high) = decades(curves);
    let x = |nines: f64| LEFT + (WIDTH - LEFT - RIGHT) * nines / NINES;
    let y = |ns: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (ns.log10() - low) / (high - low);
    writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    )?;
    for (nines, label) in ["0", "90", "99", "99.9", "99.99", "99.999", "99.9999"].iter().enumerate()
    {
        let at = x(nines as f64);
        grid(text, (at, TOP), (at, HEIGHT - BOTTOM))?;
        label_at(text, (at, HEIGHT - BOTTOM + 18.0), "middle", &format!("{label} %"))?;
    }
    for decade in low as i32..=high as i32 {
        let ns = 10f64.powi(decade);
        grid(text, (LEFT, y(ns)), (WIDTH - RIGHT, y(ns)))?;
        label_at(text, (LEFT - 8.0, y(ns) + 4.0), "end", &named(ns))?;
    }
    label_at(text, (x(NINES / 2.0), HEIGHT - 10.0), "middle", "percentile of messages")?;
    for (number, (curve, colour)) in curves.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let points: Vec<_> =
            curve.points().map(|(nines, ns)| format!("{:.1},{:.1}", x(nines), y(ns))).collect();
        let points = points.join(" ");
        writeln!(
            text,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{points}\"/>"
        )?;
        let at = TOP + 16.0 + 18.0 * number as f64;
        writeln!(
            text,
            "<rect x=\"{}\" y=\"{}\" width=\"24\" height=\"3\" fill=\"{colour}\"/>",
            LEFT + 12.0,
            at - 4.0
        )?;
        label_at(text, (LEFT + 42.0, at), "start", &escaped(&curve.name))?;
    }
    writeln!(text, "</svg>")
}

fn grid(text: &mut String, from: (f64, f64), to: (f64, f64)) -> std::fmt::Result {
    writeln!(
        text,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>",
        from.0, from.1, to.0, to.1
    )
}

fn label_at(text: &mut String, at: (f64, f64), anchor: &str, label: &str) -> std::fmt::Result {
    let (x, y) = at;
    writeln!(text, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{label}</text>")
}

/// A power of ten of ns, in the largest unit that keeps it whole.
fn named(ns: f64) -> String {
    match ns {
        ns if ns >= 1e9 => format!("{} s", ns / 1e9),
        ns if ns >= 1e6 => format!("{} ms", ns / 1e6),
        ns if ns >= 1e3 => format!("{} us", ns / 1e3),
        ns => format!("{ns} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_each_curve_inside_the_frame() {
        let mut curve = Curve::new("a < b");
        let mut run = Record::new().latency;
        (1..=10_000).for_each(|ns| run.saturating_record(ns * 17));
        curve.add(&run);
        let page = page([&curve].into_iter(), "table & more");
        assert!(page.contains("a &lt; b") && page.contains("table &amp; more"));
        let points = page.split("points=\"").nth(1).and_then(|rest| rest.split('"').next());
        let points: Vec<(f64, f64)> = points
            .expect("a line")
            .split(' ')
            .filter_map(|point| point.split_once(','))
            .map(|(x, y)| (x.parse().expect("a number"), y.parse().expect("a number")))
            .collect();
        assert_eq!(points.len(), STEPS as usize + 1);
        for (x, y) in points {
            assert!((LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y));
        }
    }
}
