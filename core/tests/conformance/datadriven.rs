//! The *datadriven* format: a directive with arguments, its input, `----`, and what is to come of it.

use std::path::Path;

/// One directive and what a mature Raft answers to it.
#[derive(Debug)]
pub struct Case {
    /// Where it stands: file and line.
    pub place: String,
    pub directive: String,
    pub arguments: Vec<Argument>,
    /// The lines between the directive and `----`.
    pub input: String,
    /// The lines after `----`.
    pub expected: String,
}

/// `key`, `key=value` or `key=(value,value)`.
#[derive(Debug, PartialEq, Eq)]
pub struct Argument {
    pub key: String,
    pub values: Vec<String>,
}

impl Case {
    /// The values of an argument; none if it is not there.
    pub fn values(&self, key: &str) -> &[String] {
        self.arguments.iter().find(|argument| argument.key == key).map_or(&[], |argument| &argument.values)
    }

    /// Whether `key=true` stands there.
    pub fn is_set(&self, key: &str) -> bool {
        self.values(key).first().is_some_and(|value| value == "true")
    }

    /// The numbers that stand alone.
    pub fn numbers(&self) -> Vec<u16> {
        let alone = self.arguments.iter().filter(|argument| argument.values.is_empty());
        alone.filter_map(|argument| argument.key.parse().ok()).collect()
    }
}

/// The cases of all files of a folder, file by file.
pub fn read_folder(folder: &Path) -> Vec<(String, Vec<Case>)> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let read = |file: &Path| {
        let name = file.file_stem().expect("it has a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let cases = parse(&name, &text);
        (name, cases)
    };
    files.iter().map(|file| read(file)).collect()
}

/// The cases of a text.
pub fn parse(name: &str, text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut head = line.trim().to_owned();
        while head.ends_with('\\') {
            head.pop();
            head.push_str(lines.next().map_or("", |(_, more)| more.trim()));
        }
        let input: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "----").collect();
        // A second line of dashes begins an answer that holds empty lines, and ends with two of them.
        let expected: Vec<&str> = if lines.next_if(|(_, line)| *line == "----").is_some() {
            let answer = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "----").collect();
            lines.next_if(|(_, line)| *line == "----");
            answer
        } else {
            lines.by_ref().map(|(_, line)| line).take_while(|line| !line.trim().is_empty()).collect()
        };
        let (directive, arguments) = head.split_once(char::is_whitespace).unwrap_or((&head, ""));
        cases.push(Case {
            place: format!("{name}:{}", number + 1),
            directive: directive.to_owned(),
            arguments: parse_arguments(arguments),
            input: input.join("\n").trim().to_owned(),
            expected: expected.join("\n"),
        });
    }
    cases
}

fn parse_arguments(mut text: &str) -> Vec<Argument> {
    let mut arguments = Vec::new();
    loop {
        text = text.trim_start();
        if text.is_empty() {
            return arguments;
        }
        let end = text.find(|letter: char| letter == '=' || letter.is_whitespace()).unwrap_or(text.len());
        let key = text[..end].to_owned();
        text = &text[end..];
        let mut values = Vec::new();
        if let Some(after) = text.strip_prefix('=') {
            let (list, rest) = match after.strip_prefix('(') {
                Some(list) => list.split_once(')').expect("a list is closed"),
                None => after.split_at(after.find(char::is_whitespace).unwrap_or(after.len())),
            };
            values = list.split(',').map(|value| value.trim().to_owned()).collect();
            text = rest;
        }
        arguments.push(Argument { key, values });
    }
}

/// What the scripts hold that this runner is for, beyond those that are there.
pub fn check_format() {
    let text = "# note\n\nsimple a=(1, 2) b=x \\\n  c\nv1 v2\n----\nvoters=(1)\n\nraft-log 1\n----\n----\none\n\ntwo\n----\n----\n\nstabilize\n----\nok\n";
    let cases = parse("text", text);
    assert_eq!(cases.len(), 3);
    let [first, second, third] = &cases[..] else { unreachable!("there are three") };
    assert_eq!(
        (first.directive.as_str(), first.values("a").len(), first.values("b")),
        ("simple", 2, &["x".to_owned()][..])
    );
    assert_eq!((first.input.as_str(), first.expected.as_str()), ("v1 v2", "voters=(1)"));
    assert_eq!((second.numbers(), second.expected.as_str()), (vec![1], "one\n\ntwo"));
    assert_eq!((third.place.as_str(), third.expected.as_str()), ("text:18", "ok"));
}
