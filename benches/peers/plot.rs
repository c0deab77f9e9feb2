//! A plot of how cost and memory grow, as SVG.

/// What was measured at one size.
pub(crate) struct Point {
    pub(crate) size: u64,
    /// Microseconds of a processor for each call.
    pub(crate) cpu: f64,
    /// Resident memory in MiB.
    pub(crate) memory: f64,
}

/// What was measured as there was more of something.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<Point>,
}

/// A panel is so wide and high, with room around it for its labels.
const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 50.0;
/// The sizes go up to ten to this.
const DECADES: u32 = 6;
const COLOURS: [&str; 3] = ["#1b6ca8", "#c2571a", "#3a7d34"];

/// Two panels side by side: what a call costs, and what memory there is, over the sizes.
pub(crate) fn svg(series: &[Series]) -> String {
    let (width, height) = (2.0 * (LEFT + WIDTH) + 40.0, TOP + HEIGHT + 60.0);
    let head = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>"
    );
    let mut lines = vec![head];
    lines.extend(panel(LEFT, "µs of a processor for each call", series, |point| point.cpu));
    let left = 2.0 * LEFT + WIDTH + 20.0;
    lines.extend(panel(left, "MiB of memory", series, |point| point.memory));
    for (number, (one, colour)) in series.iter().zip(COLOURS).enumerate() {
        let (x, y) = (LEFT + 120.0 * number as f64, TOP + HEIGHT + 48.0);
        lines.push(dot([x, y - 4.0], colour) + &text(x + 10.0, y, "start", one.name));
    }
    lines.join("\n") + "\n</svg>\n"
}

/// The lines of a panel.
fn panel(left: f64, title: &str, series: &[Series], value: fn(&Point) -> f64) -> Vec<String> {
    let all = series.iter().flat_map(|one| &one.points).map(value);
    let step = round_step(all.fold(1.0, f64::max) * 1.1);
    let most = step * 5.0;
    let x = |size: u64| left + WIDTH * (size.max(1) as f64).log10() / f64::from(DECADES);
    let y = |value: f64| TOP + HEIGHT * (1.0 - value / most);
    let mut lines = vec![text(left, TOP - 16.0, "start", title)];
    for value in (0..=5).map(|number| f64::from(number) * step) {
        let label = text(left - 8.0, y(value) + 4.0, "end", &format!("{value}"));
        lines.push(rule([left, y(value), left + WIDTH, y(value)]) + &label);
    }
    for size in (0..=DECADES).map(|decade| 10_u64.pow(decade)) {
        let label = text(x(size), TOP + HEIGHT + 18.0, "middle", &short(size));
        lines.push(rule([x(size), TOP, x(size), TOP + HEIGHT]) + &label);
    }
    for (one, colour) in series.iter().zip(COLOURS) {
        let places = one.points.iter().map(|point| [x(point.size), y(value(point))]);
        let dots: String = places.clone().map(|place| dot(place, colour)).collect();
        let path: Vec<_> = places.map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
        let path = path.join(" ");
        let line = format!("<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\"/>");
        lines.push(line + &dots);
    }
    lines
}

/// A fifth of the scale: a round number, five of which reach as far.
fn round_step(most: f64) -> f64 {
    let fifth = most / 5.0;
    let power = 10_f64.powf(fifth.log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
    round.into_iter().find(|step| *step >= fifth).unwrap_or(fifth)
}

fn short(size: u64) -> String {
    match size {
        1_000_000.. => format!("{} M", size / 1_000_000),
        10_000.. => format!("{} k", size / 1_000),
        _ => size.to_string(),
    }
}

fn rule([x1, y1, x2, y2]: [f64; 4]) -> String {
    format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#ddd\"/>")
}

fn dot([x, y]: [f64; 2], colour: &str) -> String {
    format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>")
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
}
