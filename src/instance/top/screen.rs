//! The live view, as cells of a terminal. Pure: what is drawn follows from the view and the size, so every size can be tested.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Row, Table};

use super::format;
use super::sample::{PathView, View};

/// Narrower, and paths and scripts stand below each other.
const BESIDE_WIDTH_MIN: u16 = 72;
/// Of the height, for the cores at most; when there are more, the busiest are shown.
const CORES_SHARE: u16 = 3;

/// What is drawn.
pub(super) struct Screen {
    pub(super) name: String,
    /// The last two looks made this; `None` before the second one.
    pub(super) view: Option<View>,
    /// Instead of news.
    pub(super) trouble: Option<String>,
    pub(super) paused: bool,
    pub(super) help: bool,
    pub(super) sort: Sort,
    pub(super) colour: bool,
}

/// What paths are sorted by; scripts are by age, or with `Name` by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Rate,
    Count,
    Name,
}

impl Sort {
    pub(super) fn next(self) -> Sort {
        match self {
            Sort::Rate => Sort::Count,
            Sort::Count => Sort::Name,
            Sort::Name => Sort::Rate,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Sort::Rate => "rate",
            Sort::Count => "count",
            Sort::Name => "name",
        }
    }
}

impl Screen {
    pub(super) fn new(name: String, colour: bool) -> Screen {
        Screen { name, view: None, trouble: None, paused: false, help: false, sort: Sort::Rate, colour }
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let [title, totals, body, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(2),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        self.draw_title(frame, title);
        match &self.view {
            Some(view) => {
                frame.render_widget(Paragraph::new(self.totals(view)), totals);
                self.draw_body(frame, body, view);
            }
            None if self.trouble.is_none() => frame.render_widget(Paragraph::new("  the first look ..."), body),
            None => {}
        }
        self.draw_keys(frame, keys);
        if self.help {
            self.draw_help(frame);
        }
    }

    fn colour(&self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn heading(&self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    fn draw_title(&self, frame: &mut Frame<'_>, area: Rect) {
        let what = self.view.as_ref().map_or_else(|| self.name.clone(), format::title);
        let mut spans = vec![Span::styled("ucaffeine top  ", self.heading()), Span::raw(what)];
        if let Some(trouble) = &self.trouble {
            let style = self.colour(Color::Red).add_modifier(Modifier::BOLD | Modifier::REVERSED);
            spans = vec![Span::styled(format!("{}: {trouble}", self.name), style)];
        }
        frame.render_widget(Paragraph::new(Line::from(spans)), area);
    }

    /// Two lines of names and values.
    fn totals(&self, view: &View) -> Vec<Line<'static>> {
        let totals = format::totals(view);
        let half = totals.len().div_ceil(2);
        let lines = [&totals[..half], &totals[half..]];
        let line = |cells: &[(&'static str, String)]| {
            let spans = cells.iter().flat_map(|(name, value)| {
                let loud = ["5xx", "cut/s"].contains(name) && value != "0";
                let style = if loud { self.colour(Color::Red) } else { Style::new() };
                [Span::styled(value.clone(), style.add_modifier(Modifier::BOLD)), Span::raw(format!(" {name}  "))]
            });
            Line::from(spans.collect::<Vec<_>>())
        };
        lines.map(line).to_vec()
    }

    fn draw_body(&self, frame: &mut Frame<'_>, area: Rect, view: &View) {
        let rows = (view.cores.len() as u16).min((area.height / CORES_SHARE).max(1));
        let latencies = view.latency.len() as u16 + 1;
        let [cores, _, latency, _, lists] = Layout::vertical([
            Constraint::Length(rows + 1),
            Constraint::Length(u16::from(area.height > 12)),
            Constraint::Length(latencies),
            Constraint::Length(1),
            Constraint::Fill(1),
        ])
        .areas(area);
        self.draw_cores(frame, cores, view, usize::from(rows));
        self.draw_latency(frame, latency, view);
        let halves = [Constraint::Fill(1), Constraint::Fill(1)];
        let [paths, scripts] = match area.width >= BESIDE_WIDTH_MIN {
            true => Layout::horizontal(halves).spacing(2).areas(lists),
            false => Layout::vertical(halves).areas(lists),
        };
        let (mut by_path, mut running) = (view.paths.clone(), view.scripts.clone());
        by_path.sort_by(|a, b| self.order(a, b));
        if self.sort == Sort::Name {
            running.sort_by(|a, b| a.path.cmp(&b.path));
        }
        let columns = [Constraint::Length(7), Constraint::Length(8), Constraint::Fill(1)];
        let rows = by_path.iter().map(|path| Row::new(format::path(path)));
        self.draw_table(frame, paths, ["REQ/S", "COUNT", "PATH"], rows, columns);
        let columns = [Constraint::Length(8), Constraint::Length(8), Constraint::Fill(1)];
        let rows = running.iter().map(|script| {
            // The end of a path says more than its beginning.
            let [pid, age, path] = format::script(script);
            Row::new([pid, age, tail(&path, usize::from(scripts.width.saturating_sub(18)))])
        });
        self.draw_table(frame, scripts, ["PID", "AGE", "SCRIPT"], rows, columns);
    }

    fn order(&self, a: &PathView, b: &PathView) -> std::cmp::Ordering {
        let by_count = || b.count.cmp(&a.count);
        match self.sort {
            Sort::Rate => b.per_s.total_cmp(&a.per_s).then_with(by_count),
            Sort::Count => by_count(),
            Sort::Name => a.path.cmp(&b.path),
        }
    }

    fn draw_cores(&self, frame: &mut Frame<'_>, area: Rect, view: &View, rows: usize) {
        let mut cores: Vec<_> = view.cores.iter().collect();
        if cores.len() > rows {
            cores.sort_by(|a, b| b.is_silent.cmp(&a.is_silent).then(b.load.total_cmp(&a.load)));
            cores.truncate(rows);
        }
        let wide = area.width >= BESIDE_WIDTH_MIN;
        let rows = cores.into_iter().map(|core| {
            let [number, load, rest @ ..] = format::core(core);
            let style = match core.load {
                _ if core.is_silent => self.colour(Color::Red),
                0.9.. => self.colour(Color::Red),
                0.6..0.9 => self.colour(Color::Yellow),
                _ => self.colour(Color::Green),
            };
            let load = if wide && !core.is_silent { format!("{} {load}", bar(core.load)) } else { load };
            let cells = [Span::raw(number), Span::styled(load, style)].into_iter().chain(rest.map(Span::raw));
            Row::new(cells.collect::<Vec<_>>())
        });
        let load = if wide { 17 } else { 6 };
        let columns = [5, load, 5, 8, 9, 10, 7].map(Constraint::Length);
        self.draw_table(frame, area, format::CORE_HEADINGS, rows, columns);
    }

    fn draw_latency(&self, frame: &mut Frame<'_>, area: Rect, view: &View) {
        let rows = view.latency.iter().map(|latency| Row::new(format::latency(latency)));
        let columns = [20, 9, 9, 9, 9, 9].map(Constraint::Length);
        self.draw_table(frame, area, format::latency_headings(), rows, columns);
    }

    fn draw_table<'r, const N: usize>(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        headings: [&'static str; N],
        rows: impl Iterator<Item = Row<'r>>,
        columns: [Constraint; N],
    ) {
        frame.render_widget(Table::new(rows, columns).header(Row::new(headings).style(self.heading())), area);
    }

    fn draw_keys(&self, frame: &mut Frame<'_>, area: Rect) {
        let paused = if self.paused { "  PAUSED" } else { "" };
        let text = format!("q quit  p pause  s sort: {}  ? help{paused}", self.sort.name());
        frame.render_widget(Paragraph::new(text).style(Style::new().add_modifier(Modifier::REVERSED)), area);
    }

    fn draw_help(&self, frame: &mut Frame<'_>) {
        let all = frame.area();
        let (width, height) = (all.width.min(76), all.height.min(HELP.lines().count() as u16));
        let area = Rect { x: (all.width - width) / 2, y: (all.height - height) / 2, width, height };
        frame.render_widget(Clear, area);
        let style = Style::new().add_modifier(Modifier::REVERSED);
        frame.render_widget(Paragraph::new(HELP).style(style), area);
    }
}

const HELP: &str = "
 q, Esc, Ctrl-C  quit             p  pause, and go on
 s               sort paths       ?  this, and back

 LOAD       CPU time of the core's thread, the kernel's part included
 USER       of that, the server's own part
 CQE/ENTER  completions for each io_uring_enter: more under load
 LATENCY    from the turn that read a request until its reply was sent;
            not what a client sees: the network and queues come on top
 COUNT      of a path: requests since somebody watches
 in flight  requests that take longer than one turn
";

/// Ten cells.
fn bar(part: f64) -> String {
    let full = (part * 10.0).round().clamp(0.0, 10.0) as usize;
    format!("{}{}", "#".repeat(full), ".".repeat(10 - full))
}

/// The last characters of a text, as many as there is room for.
fn tail(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width || width == 0 {
        return text.to_owned();
    }
    let rest: String = text.chars().skip(count - width + 1).collect();
    format!("~{rest}")
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::super::sample::tests::told;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    fn view() -> View {
        let before = Sample::read(&told(1000, 100, json!([])), 4242).unwrap();
        let after = Sample::read(&told(3000, 500, json!([[16, 399], [40, 1]])), 4242).unwrap();
        after.since(&before, "shop")
    }

    fn screen() -> Screen {
        Screen { view: Some(view()), ..Screen::new("shop".into(), true) }
    }

    /// As lines of text; and whether any cell has a colour.
    fn drawn(screen: &Screen, width: u16, height: u16) -> (Vec<String>, bool) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        ((0..height).map(line).collect(), buffer.content.iter().any(|cell| cell.fg != Color::Reset))
    }

    #[test]
    fn everything_has_a_place_in_eighty_by_twenty_four() {
        let (lines, coloured) = drawn(&screen(), 80, 24);
        assert!(coloured);
        let text = lines.join("\n");
        assert_eq!(lines[0], "ucaffeine top  shop (pid 4242)  serving for 3s");
        assert!(lines[1].starts_with("200 req/s  200 2xx  0 3xx  0 4xx  20.0 5xx"), "{text}");
        assert!(lines[1].ends_with("3 conns") && lines[2].ends_with("1 in flight  1 scripts  2 queued"), "{text}");
        assert!(lines[3].starts_with("CORE  LOAD"), "{text}");
        assert!(lines[4].starts_with("0     ###....... 25%    10%   200      200       2.00"), "{text}");
        assert!(lines[5].starts_with("1     silent"), "{text}");
        assert!(text.contains("server               400       2.2 us    2.2 us    2.2 us    18 us"), "{text}");
        assert!(text.contains("scripts, whole       0         -"), "{text}");
        assert!(text.contains("200     500      /a"), "{text}");
        assert!(text.contains("77       1m 1s    ~") && text.contains("/cgi-bin/slow.sh"), "{text}");
        assert!(!text.contains('\u{1b}') && text.contains("/\u{fffd}[31mred"), "{text}");
        assert_eq!(lines[23], "q quit  p pause  s sort: rate  ? help");
    }

    /// Whatever the size, it is drawn without a panic, and where there is room for one line, the name is in it.
    #[test]
    fn any_size_will_do() {
        for (width, height) in [(1, 1), (5, 2), (20, 5), (40, 12), (60, 24), (79, 23), (132, 43), (300, 100)] {
            for help in [false, true] {
                let (lines, _) = drawn(&Screen { help, ..screen() }, width, height);
                assert!(help || width < 40 || lines[0].contains("shop"), "{width}x{height}: {}", lines.join("\n"));
            }
        }
    }

    #[test]
    fn a_narrow_terminal_has_the_lists_below_each_other() {
        let text = drawn(&screen(), 60, 30).0;
        let line = |what: &str| text.iter().position(|line| line.starts_with(what));
        assert!(line("REQ/S") < line("PID") && line("PID").is_some(), "{}", text.join("\n"));
    }

    #[test]
    fn many_cores_are_shown_by_their_load() {
        let mut view = view();
        let core = view.cores[0].clone();
        view.cores = (0..64)
            .map(|number| super::super::sample::CoreView { core: number, load: number as f64 / 64.0, ..core.clone() })
            .collect();
        let text = drawn(&Screen { view: Some(view), ..screen() }, 80, 24).0;
        assert!(text[4].starts_with("63 ") && text[5].starts_with("62 "), "{}", text.join("\n"));
        assert!(text.iter().any(|line| line.contains("/a")), "there is room for the rest:\n{}", text.join("\n"));
    }

    #[test]
    fn without_colour_there_is_none() {
        let screen = Screen { colour: false, trouble: Some("it has ended".into()), ..screen() };
        let (lines, coloured) = drawn(&screen, 80, 24);
        assert!(!coloured);
        assert_eq!(lines[0], "shop: it has ended");
    }

    #[test]
    fn before_the_second_look_it_says_so() {
        let text = drawn(&Screen::new("shop".into(), true), 80, 24).0.join("\n");
        assert!(text.contains("shop") && text.contains("the first look"), "{text}");
    }

    #[test]
    fn paths_are_sorted_as_asked() {
        let mut view = view();
        let path = |path: &str, per_s: f64, count| PathView { path: path.into(), per_s, count };
        view.paths = vec![path("/b", 1.0, 30), path("/a", 2.0, 10), path("/c", 3.0, 20)];
        for (sort, first) in [(Sort::Rate, "/c"), (Sort::Count, "/b"), (Sort::Name, "/a")] {
            let lines = drawn(&Screen { view: Some(view.clone()), sort, ..screen() }, 80, 24).0;
            let at = lines.iter().position(|line| line.starts_with("REQ/S")).unwrap();
            assert!(lines[at + 1].contains(first), "{}", lines.join("\n"));
        }
    }
}
