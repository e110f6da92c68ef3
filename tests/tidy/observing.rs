//! Checks the files of `docs/observing` for Prometheus and Grafana. Their metrics and labels exist,
//! and the runbook has an entry for each alert and each kind of error.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
};

use pulldown_cmark::{Event, Parser};
use serde_json::Value;
use tonic_health_channel::metrics::{
    Instrument, InstrumentKind, Label, Meter, Observed, Prometheus,
};

use super::{
    assert_none, files, library,
    promql::{self, Query},
    root,
};

/// Labels that a scrape adds to each series.
const OF_SCRAPES: [&str; 2] = ["instance", "job"];

fn text_of(name: &str) -> String {
    let path = root().join("docs").join(name);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("docs/{name}: {error}"))
}

/// A series, as Prometheus knows it.
struct Series {
    instrument: &'static Instrument,
    labels: BTreeSet<String>,
}

struct One;

impl Observed for One {
    fn value(&self) -> f64 {
        1.0
    }
}

/// Each series that a channel can have, by its name: as the exporter writes it.
fn all_series() -> BTreeMap<String, Series> {
    let mut all = BTreeMap::new();
    for instrument in Instrument::all() {
        let meter = Prometheus::new();
        let keys = instrument.labels().iter();
        let keys = keys.chain(instrument.optional_labels());
        let labels: Vec<_> = keys.map(|key| Label::new(key, "value")).collect();
        let mut _until_read: Option<Box<dyn Any + Send + Sync>> = None;
        match instrument.kind() {
            InstrumentKind::Counter => meter.counter(instrument, &labels).add(1),
            InstrumentKind::UpDown => meter.up_down(instrument, &labels).add(1),
            InstrumentKind::Histogram => meter.histogram(instrument, &labels).record(1.0),
            InstrumentKind::Observed => {
                _until_read = Some(meter.observe(instrument, &labels, Arc::new(One)));
            }
            other => panic!("{other:?} is new"),
        }
        let text = meter.render();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, labels) = line.split_once('{').expect("each has a label");
            let keys = labels.split("=\"").map(|part| {
                let start = part.rfind([',', '"']).map_or(0, |at| at + 1);
                part[start..].to_owned()
            });
            let mut labels: BTreeSet<_> = keys.collect();
            labels.retain(|label| label.starts_with(|c: char| c.is_ascii_lowercase()));
            labels.extend(OF_SCRAPES.map(str::to_owned));
            all.insert(name.to_owned(), Series { instrument, labels });
        }
    }
    all
}

/// A query, and where it is.
struct Found {
    at: String,
    text: String,
    legend: String,
}

fn dashboard() -> Value {
    serde_json::from_str(&text_of("observing/grafana.json")).expect("grafana.json is JSON")
}

fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().expect("a list of panels");
    let mut panels: Vec<_> = panels.iter().collect();
    panels.retain(|panel| panel["type"] != "row");
    panels
}

/// Those of panels, and that of the variable `target`.
fn queries_of_dashboard() -> Vec<Found> {
    let dashboard = dashboard();
    let mut found = Vec::new();
    for panel in panels(&dashboard) {
        let targets = panel["targets"].as_array();
        for target in targets.expect("each panel has queries") {
            let text = |field: &str| target[field].as_str().unwrap_or_default().to_owned();
            found.push(Found {
                at: format!("grafana.json, panel {}", panel["title"]),
                text: text("expr"),
                legend: text("legendFormat"),
            });
        }
    }
    let variables = dashboard["templating"]["list"].as_array();
    for variable in variables.expect("a list of variables") {
        let Some(text) = variable["query"]["query"].as_str() else {
            continue;
        };
        let inside = text.strip_prefix("label_values(");
        let inside = inside.and_then(|text| text.strip_suffix(')'));
        let (metric, label) = inside.and_then(|text| text.rsplit_once(", ")).expect(text);
        found.push(Found {
            at: format!("grafana.json, variable {}", variable["name"]),
            text: format!("sum by ({label}) ({metric})"),
            legend: String::new(),
        });
    }
    found
}

/// An alert, with its fields that have a line of their own.
struct Alert {
    name: String,
    fields: BTreeMap<String, String>,
}

/// `rules.yml` is in a simple form of YAML: `key: value`, or `key: |` and lines that are further
/// to the right. promtool checks that it is YAML.
fn alerts() -> Vec<Alert> {
    let text = text_of("observing/rules.yml");
    let mut alerts: Vec<Alert> = Vec::new();
    let mut lines = text.lines().peekable();
    let indent = |line: &str| line.len() - line.trim_start().len();
    while let Some(line) = lines.next() {
        let trimmed = line.trim_start();
        if let Some(name) = trimmed.strip_prefix("- alert: ") {
            let (name, fields) = (name.to_owned(), BTreeMap::new());
            alerts.push(Alert { name, fields });
            continue;
        }
        let Some((key, value)) = trimmed.split_once(':') else {
            continue;
        };
        let (Some(alert), false) = (alerts.last_mut(), trimmed.starts_with('#')) else {
            continue;
        };
        let mut value = value.trim().to_owned();
        if value == "|" {
            value.clear();
            while let Some(more) = lines.next_if(|next| indent(next) > indent(line)) {
                value += more;
                value.push('\n');
            }
        }
        let before = alert.fields.insert(key.to_owned(), value);
        assert!(before.is_none(), "{}: `{key}` twice", alert.name);
    }
    alerts
}

fn queries_of_alerts() -> Vec<Found> {
    let alerts = alerts().into_iter().map(|alert| Found {
        at: format!("rules.yml, {}", alert.name),
        text: alert.fields.get("expr").cloned().unwrap_or_default(),
        legend: String::new(),
    });
    alerts.collect()
}

/// The series of the tests of alerts.
fn queries_of_tests() -> Vec<Found> {
    let text = text_of("observing/rules_test.yml");
    let lines = text.lines().filter_map(|line| {
        let series = line.trim_start().strip_prefix("- series: '")?;
        series.strip_suffix('\'')
    });
    let series = lines.map(|text| Found {
        at: "rules_test.yml".to_owned(),
        text: text.to_owned(),
        legend: String::new(),
    });
    series.collect()
}

/// The code in the runbook that looks like a query.
fn queries_of_runbook() -> Vec<Found> {
    let text = text_of("observing/runbook.md");
    let codes = Parser::new(&text).filter_map(|event| match event {
        Event::Code(code) => Some(code.replace('\n', " ")),
        _ => None,
    });
    let begins = ["sum", "max", "histogram_quantile(", "rate(", "increase("];
    let queries = codes.filter(|code| begins.iter().any(|begin| code.starts_with(begin)));
    // Some name an aggregation without its operand.
    let queries = queries.filter(|code| code.matches('(').count() > 1);
    let found = queries.map(|text| Found {
        at: "runbook.md".to_owned(),
        text,
        legend: String::new(),
    });
    found.collect()
}

fn all_queries() -> Vec<Found> {
    let mut all = Vec::new();
    for (found, least) in [
        (queries_of_dashboard(), 30),
        (queries_of_alerts(), 10),
        (queries_of_tests(), 30),
        (queries_of_runbook(), 20),
    ] {
        assert!(found.len() >= least, "only {} queries", found.len());
        all.extend(found);
    }
    all
}

#[track_caller]
fn read(found: &Found) -> Query {
    promql::read(&found.text)
        .unwrap_or_else(|error| panic!("{}: {error}\n{}", found.at, found.text))
}

#[test]
fn each_query_names_metrics_and_labels_that_exist() {
    let series = all_series();
    let mut complaints = Vec::new();
    for found in all_queries() {
        let Found { at, .. } = &found;
        for selector in read(&found).selectors {
            let Some(series) = series.get(&selector.metric) else {
                complaints.push(format!("{at}: there is no metric {}", selector.metric));
                continue;
            };
            let labels = selector.labels.difference(&series.labels);
            let metric = &selector.metric;
            complaints.extend(labels.map(|label| format!("{at}: {metric} has no label {label}")));
        }
    }
    assert_none(&complaints);
}

/// Also in text and in legends, where there is no query.
#[test]
fn each_name_in_docs_observing_is_one_of_a_metric_or_a_label() {
    let series = all_series();
    let mut known: BTreeSet<_> = series.values().flat_map(|one| one.labels.clone()).collect();
    known.extend(series.into_keys());
    let mut complaints = Vec::new();
    let files = ["json", "md", "yml"].map(|ending| files("docs/observing", ending));
    for path in files.iter().flatten() {
        let text = fs::read_to_string(path).expect("a UTF-8 file");
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "_.:/".contains(c)));
        for word in words {
            let is_ours = word.starts_with("tonic_health_channel_") || word.starts_with("grpc_");
            if is_ours && !known.contains(word.trim_end_matches(['.', ':'])) {
                complaints.push(format!("{}: there is no {word}", path.display()));
            }
        }
    }
    assert_none(&complaints);
}

/// A value that no label has would match nothing, without a word.
#[test]
fn each_value_of_a_matcher_is_in_the_library() {
    let library = library();
    let mut complaints = Vec::new();
    for found in queries_of_dashboard()
        .into_iter()
        .chain(queries_of_alerts())
    {
        for value in read(&found)
            .selectors
            .into_iter()
            .flat_map(|one| one.values)
        {
            let text = format!("\"{value}\"");
            if value != "$target" && !library.iter().any(|source| source.code.contains(&text)) {
                complaints.push(format!("{}: nothing has the value {value}", found.at));
            }
        }
    }
    assert_none(&complaints);
}

/// The words in double braces.
fn in_braces<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let parts = text.split("{{").skip(1);
    let parts = parts.filter_map(|part| Some(part.split_once("}}")?.0.trim()));
    parts.filter_map(move |part| part.strip_prefix(prefix))
}

#[test]
fn legends_and_annotations_show_labels_that_are_there() {
    let mut complaints = Vec::new();
    for found in queries_of_dashboard() {
        let by = read(&found).by.unwrap_or_default();
        for label in in_braces(&found.legend, "").filter(|label| !by.contains(*label)) {
            complaints.push(format!("{}: the legend has no {label}", found.at));
        }
    }
    let series = all_series();
    for (alert, found) in alerts().into_iter().zip(queries_of_alerts()) {
        let query = read(&found);
        let mut there = query.by.clone().unwrap_or_else(|| {
            let first = query.selectors.first().map(|one| &series[&one.metric]);
            first.expect("a metric").labels.clone()
        });
        if let Some(left_out) = found.text.split_once("without (") {
            let (labels, _) = left_out.1.split_once(')').expect("a list");
            there.retain(|label| !labels.split(", ").any(|other| other == label));
        }
        for field in ["summary", "description"] {
            let text = &alert.fields[field];
            for label in in_braces(text, "$labels.").filter(|label| !there.contains(*label)) {
                complaints.push(format!("{}: the {field} has no {label}", found.at));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn each_panel_can_be_read() {
    let dashboard = dashboard();
    let mut complaints = Vec::new();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].to_string();
        if !ids.insert(panel["id"].to_string()) {
            complaints.push(format!("{title}: its id is there twice"));
        }
        let side = |side: &str| panel["gridPos"][side].as_u64().expect("a number");
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                if x >= 24 || !taken.insert((x, y)) {
                    complaints.push(format!("{title}: it is above another, or outside"));
                }
            }
        }
    }
    for panel in panels(&dashboard) {
        let title = panel["title"].to_string();
        let mut check = |is_there: bool, what: &str| {
            if !is_there {
                complaints.push(format!("{title}: {what}"));
            }
        };
        let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        check(is_text(&panel["description"]), "no description");
        let unit = &panel["fieldConfig"]["defaults"]["unit"];
        check(is_text(unit), "no unit");
        let targets = panel["targets"].as_array().into_iter().flatten();
        for of in targets.chain([panel]) {
            let source = &of["datasource"]["uid"];
            check(source == "${datasource}", "another data source");
        }
        let queries = panel["targets"].to_string();
        check(
            queries.contains(r#"grpc_target=~\"$target\""#),
            "not of the targets that are chosen",
        );
    }
    assert_none(&complaints);
}

#[test]
fn each_alert_is_complete_and_tested() {
    let tests = text_of("observing/rules_test.yml");
    let mut complaints = Vec::new();
    for Alert { name, fields } in alerts() {
        for field in ["expr", "for", "severity", "summary", "description"] {
            if fields.get(field).is_none_or(String::is_empty) {
                complaints.push(format!("{name}: no {field}"));
            }
        }
        let entry = format!("runbook.md#{}", name.to_lowercase());
        if fields.get("runbook_url") != Some(&entry) {
            complaints.push(format!("{name}: runbook_url is not {entry}"));
        }
        let of_it = format!("- alertname: {name}\n");
        let expected = tests.split(&*of_it).skip(1).map(|test| {
            let (_, after) = test.split_once("exp_alerts:").expect("what is expected");
            after.trim_start_matches(' ').starts_with('\n')
        });
        let expected: BTreeSet<_> = expected.collect();
        if expected.len() < 2 {
            complaints.push(format!(
                "{name}: it has to fire in a test, and not in another"
            ));
        }
    }
    assert_none(&complaints);
}

/// The variants of an enum of `src/error.rs`.
fn variants(name: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("src/error.rs")).expect("src/error.rs");
    let file = syn::parse_file(&text).expect("it compiles");
    let mut enums = file.items.iter().filter_map(|item| match item {
        syn::Item::Enum(found) if found.ident == name => Some(found),
        _ => None,
    });
    let found = enums.next().expect("the enum");
    let variants = found.variants.iter();
    variants
        .map(|one| format!("{name}::{}", one.ident))
        .collect()
}

#[test]
fn the_runbook_has_an_entry_for_each_alert_and_each_kind() {
    let mut expected: BTreeSet<_> = alerts().into_iter().map(|alert| alert.name).collect();
    expected.extend(variants("ErrorKind"));
    expected.extend(variants("CauseKind"));
    assert!(expected.len() > 30, "only {} entries", expected.len());
    let text = text_of("observing/runbook.md");
    let headings = text.lines().filter_map(|line| line.strip_prefix("### "));
    let found: BTreeSet<_> = headings.map(str::to_owned).collect();
    let missing = expected.difference(&found);
    let missing = missing.map(|entry| format!("runbook.md has no entry {entry}"));
    let unknown = found.difference(&expected);
    let unknown = unknown.map(|entry| format!("runbook.md: there is no {entry}"));
    assert_none(&missing.chain(unknown).collect::<Vec<_>>());
}

/// A link within the runbook leads to a heading.
#[test]
fn the_links_of_the_runbook_lead_somewhere() {
    let text = text_of("observing/runbook.md");
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let text = text.replace(' ', "-");
        text.replace(|c: char| !(c.is_ascii_alphanumeric() || c == '-'), "")
    };
    let anchors: BTreeSet<_> = headings.map(anchor).collect();
    let links = text.split("](#").skip(1);
    let links = links.filter_map(|after| Some(after.split_once(')')?.0));
    let broken = links.filter(|link| !anchors.contains(*link));
    assert_none(&broken.map(str::to_owned).collect::<Vec<_>>());
}

/// The settings that the guide shows switch on what the dashboard and the alerts use.
#[test]
fn the_guide_switches_on_what_is_used() {
    let series = all_series();
    let queries = queries_of_dashboard()
        .into_iter()
        .chain(queries_of_alerts());
    let mut used = BTreeSet::new();
    for selector in queries.flat_map(|found| read(&found).selectors) {
        let instrument = series[&selector.metric].instrument;
        if !instrument.is_default() {
            used.insert(instrument.name().to_owned());
        }
        for label in instrument.optional_labels() {
            // To leave a label out does not need it.
            let is_shown = selector.labels.contains(&label.replace('.', "_"));
            if is_shown && *label != "backend" {
                used.insert((*label).to_owned());
            }
        }
    }
    let text = text_of("observing.md");
    let (_, after) = text.split_once("## Dashboard and alerts").expect("a part");
    let code = after.split("```").nth(1).expect("a block of code");
    let names = code.split('"').skip(1).step_by(2).map(str::to_owned);
    assert_eq!(names.collect::<BTreeSet<_>>(), used);
}
