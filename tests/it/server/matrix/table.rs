//! The table as text: comments, a code for each outcome, a line with the actors, a line for each method.

use std::fmt::{self, Write};

/// One method's outcomes, in the order of the actors.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub method: String,
    /// Who may call, by its signature.
    pub rule: String,
    pub outcomes: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Table {
    comments: Vec<String>,
    /// Code and outcome.
    codes: Vec<(String, String)>,
    actors: Vec<String>,
    /// Cells are codes.
    lines: Vec<Line>,
}

const PREFIX: &str = "blue.catbird.";

impl Table {
    pub fn read(text: &str) -> Self {
        let mut table = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let mut words = line.split_whitespace().map(str::to_owned);
            if line.starts_with('#') {
                table.comments.push(line.to_owned());
            } else if line.starts_with("= ") {
                let (_, code) = (words.next(), words.next().unwrap());
                table.codes.push((code, words.collect::<Vec<_>>().join(" ")));
            } else if line.starts_with("method ") {
                table.actors = words.skip(2).collect();
            } else {
                let (method, rule) = (words.next().unwrap(), words.next().unwrap());
                table.lines.push(Line { method, rule, outcomes: words.collect() });
            }
        }
        table
    }

    /// The code of an outcome; of a subscription's, which has no status, by its name.
    fn code(&self, outcome: &str) -> Option<&str> {
        let named = |known: &str| known.split(' ').nth(1) == Some(outcome);
        self.codes.iter().find(|(_, known)| known == outcome || named(known)).map(|(code, _)| code.as_str())
    }

    /// A line of the table for what was answered.
    fn coded(&self, line: &Line) -> Line {
        let method = line.method.trim_start_matches(PREFIX).to_owned();
        let code = |outcome: &String| self.code(outcome).map_or_else(|| made_up(outcome), str::to_owned);
        Line { method, rule: line.rule.clone(), outcomes: line.outcomes.iter().map(code).collect() }
    }

    /// What is not so, with the lines to paste.
    pub fn differences(&self, actors: &[&str], answered: &[Line]) -> Vec<String> {
        let mut differences = Vec::new();
        for (what, left, right) in [
            ("is not in the table", actors.to_vec(), self.actors.iter().map(String::as_str).collect()),
            ("is in the table alone", self.actors.iter().map(String::as_str).collect(), actors.to_vec()),
        ] {
            let missing = left.into_iter().filter(|actor| !right.contains(actor));
            differences.extend(missing.map(|actor| format!("actor {actor} {what}")));
        }
        if differences.is_empty() && self.actors != actors {
            differences.push("the actors stand in another order".to_owned());
        }
        for line in answered {
            for outcome in line.outcomes.iter().filter(|outcome| self.code(outcome).is_none()) {
                let code = format!("+ = {} {outcome}", made_up(outcome));
                if !differences.contains(&code) {
                    differences.push(code);
                }
            }
            let coded = self.coded(line);
            match self.lines.iter().find(|known| known.method == coded.method) {
                Some(known) if *known == coded => {}
                Some(known) => {
                    differences.extend([format!("- {}", self.row(known)), format!("+ {}", self.row(&coded))]);
                }
                None => differences.push(format!("+ {}", self.row(&coded))),
            }
        }
        let mounted =
            |known: &&Line| answered.iter().any(|line| line.method.trim_start_matches(PREFIX) == known.method);
        let dead = self.lines.iter().filter(|known| !mounted(known));
        differences.extend(dead.map(|known| format!("- {} (no such method is mounted)", self.row(known))));
        differences
    }

    /// The table as it should be.
    pub fn with(mut self, actors: &[&str], answered: &[Line]) -> Self {
        for outcome in answered.iter().flat_map(|line| &line.outcomes) {
            if self.code(outcome).is_none() {
                self.codes.push((made_up(outcome), outcome.clone()));
            }
        }
        self.actors = actors.iter().map(|&actor| actor.to_owned()).collect();
        self.lines = answered.iter().map(|line| self.coded(line)).collect();
        self.lines.sort_by(|a, b| a.method.cmp(&b.method));
        let used = |code: &str| self.lines.iter().any(|line| line.outcomes.iter().any(|cell| cell == code));
        let codes = std::mem::take(&mut self.codes).into_iter();
        self.codes = codes.filter(|(code, _)| used(code)).collect();
        self
    }

    /// The line as it stands in the file: columns are as wide as their heads, or as the widest code.
    fn row(&self, line: &Line) -> String {
        let widest = self.codes.iter().map(|(code, _)| code.len()).max().unwrap_or(0);
        let mut row = format!("{:<29} {:<17}", line.method, line.rule);
        for (cell, actor) in line.outcomes.iter().zip(self.actors.iter().map(String::len).chain(std::iter::repeat(0))) {
            let width = actor.max(widest);
            // Writing to a String cannot fail.
            let _ = write!(row, " {cell:<width$}");
        }
        row.trim_end().to_owned()
    }
}

/// The code of an outcome that has none yet.
fn made_up(outcome: &str) -> String {
    outcome.split(' ').next_back().unwrap_or_default().to_owned()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for comment in &self.comments {
            writeln!(f, "{comment}")?;
        }
        writeln!(f)?;
        for (code, outcome) in &self.codes {
            writeln!(f, "= {code:<12} {outcome}")?;
        }
        let head = Line { method: "method".to_owned(), rule: "rule".to_owned(), outcomes: self.actors.clone() };
        writeln!(f, "\n{}", self.row(&head))?;
        for line in &self.lines {
            writeln!(f, "{}", self.row(line))?;
        }
        Ok(())
    }
}

#[test]
fn a_method_without_a_line_a_line_without_a_method_a_missing_actor_and_another_answer_are_told() {
    let text = "# what it is\n= ok 200\n= auth 401 AuthenticationRequired\nmethod rule nobody somebody\n\
                mls.read Device auth ok\nmls.live Device auth ok\n";
    let line = |method: &str, outcomes: [&str; 2]| Line {
        method: format!("{PREFIX}{method}"),
        rule: "Device".to_owned(),
        outcomes: outcomes.map(str::to_owned).into(),
    };
    let good =
        [line("mls.read", ["401 AuthenticationRequired", "200"]), line("mls.live", ["AuthenticationRequired", "200"])];
    let actors = ["nobody", "somebody"];
    let differences = |actors: &[&str], lines: &[Line]| Table::read(text).differences(actors, lines);
    assert_eq!(differences(&actors, &good), Vec::<String>::new());
    assert_eq!(differences(&actors, &good[..1]).len(), 1, "a line without a method");
    let more = [good.to_vec(), vec![line("mls.new", ["401 AuthenticationRequired", "403 NotMember"])]].concat();
    assert_eq!(differences(&actors, &more).len(), 2, "a method without a line, and an outcome without a code");
    assert_eq!(differences(&["nobody", "somebody", "else"], &good), ["actor else is not in the table"]);
    assert_eq!(differences(&["nobody"], &good), ["actor somebody is in the table alone"]);
    assert_eq!(differences(&["somebody", "nobody"], &good), ["the actors stand in another order"]);
    let open = [line("mls.read", ["200", "200"]), good[1].clone()];
    assert_eq!(differences(&actors, &open).len(), 2, "what it was, and what it is");
    let mut widened = good.clone();
    widened[0].rule = "Anyone".to_owned();
    assert_eq!(differences(&actors, &widened).len(), 2, "another rule");
    let written = Table::read(text).with(&actors, &more).to_string();
    assert_eq!(Table::read(&written).differences(&actors, &more), Vec::<String>::new(), "{written}");
    assert!(written.starts_with("# what it is\n"));
}
