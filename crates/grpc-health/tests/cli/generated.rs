//! Completions, pages for `man`, and the documentation: each knows every command
//! and every flag that `--help` knows.

use std::{collections::BTreeSet, fs, path::Path};

use super::run::run;

/// What `args` prints.
async fn printed(args: &[&str]) -> String {
    let ran = run(args).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
    assert!(!ran.stdout.is_empty(), "{args:?} prints nothing");
    ran.stdout
}

/// The first words of the lines below `Commands:`.
async fn commands() -> Vec<String> {
    let help = printed(&["--help"]).await;
    let below = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = below.take_while(|line| !line.is_empty());
    let words = lines.filter_map(|line| line.split_whitespace().next());
    words.map(str::to_owned).collect()
}

/// The long flags of a command, without dashes.
async fn flags(command: &str) -> BTreeSet<String> {
    let help = printed(&[command, "--help"]).await;
    let mut flags = BTreeSet::new();
    for line in help
        .lines()
        .filter(|line| line.trim_start().starts_with('-'))
    {
        let (_, after) = line.split_once("--").unwrap_or_default();
        let is_of_name = |c: char| c.is_ascii_lowercase() || c == '-';
        let end = after.find(|c| !is_of_name(c)).unwrap_or(after.len());
        flags.insert(after[..end].to_owned());
    }
    flags.remove("");
    flags
}

#[tokio::test]
async fn completions_know_every_command_and_flag() {
    let commands = commands().await;
    assert!(commands.contains(&"probe".to_owned()), "{commands:?}");
    assert!(flags("probe").await.len() >= 14, "not all flags were read");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = printed(&["completions", shell]).await;
        for command in &commands {
            assert!(script.contains(command), "{shell}: no {command}");
            for flag in flags(command).await {
                assert!(script.contains(&flag), "{shell}: no {command} --{flag}");
            }
        }
    }
}

#[tokio::test]
async fn there_is_a_page_about_every_command() {
    let overview = printed(&["man"]).await;
    assert!(overview.starts_with(".ie") && overview.contains(".TH grpc-health 1"));
    for command in commands().await {
        assert!(overview.contains(&command), "no {command}");
        let page = printed(&["man", &command]).await.replace('\\', "");
        assert!(page.contains(&format!(".TH grpc-health-{command} 1")));
        for flag in flags(&command).await {
            assert!(
                page.contains(&format!("--{flag}")),
                "{command}: no --{flag}"
            );
        }
    }
}

#[tokio::test]
async fn the_documentation_knows_every_command_and_flag() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/grpc-health.md");
    let text = fs::read_to_string(path).expect("docs/grpc-health.md");
    for command in commands().await {
        assert!(
            text.contains(&format!("grpc-health {command}")),
            "no {command}"
        );
        for flag in flags(&command).await {
            // Those of `probe` are written as the original writes them.
            assert!(text.contains(&format!("-{flag}")), "{command}: no --{flag}");
        }
    }
}

/// What bash would offer after this line, by the function that the script defines.
#[cfg(unix)]
async fn bash_offers(script: &str, line: &str) -> Option<Vec<String>> {
    let words: Vec<_> = line.split(' ').collect();
    let ask = format!(
        "COMP_LINE={line:?}; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=({}); COMP_CWORD={}\n\
         _grpc-health \"${{COMP_WORDS[0]}}\" \"${{COMP_WORDS[COMP_CWORD]}}\" \
         \"${{COMP_WORDS[COMP_CWORD-1]}}\"\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words
            .iter()
            .map(|word| format!("{word:?}"))
            .collect::<Vec<_>>()
            .join(" "),
        words.len() - 1
    );
    let mut bash = tokio::process::Command::new("bash");
    bash.args(["--norc", "-c", &format!("{script}\n{ask}")]);
    let output = match bash.output().await {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("bash cannot be run: {error}"),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&output.stderr), "", "{line}");
    let offered = text(&output.stdout);
    Some(
        offered
            .lines()
            .filter(|l| !l.is_empty())
            .map(str::to_owned)
            .collect(),
    )
}

#[cfg(unix)]
#[tokio::test]
async fn bash_completes_commands_flags_and_values() {
    let script = printed(&["completions", "bash"]).await;
    let mut cases = vec![
        ("grpc-health ".to_owned(), commands().await),
        (
            "grpc-health watch --until ".to_owned(),
            ["serving", "any-serving"].map(str::to_owned).to_vec(),
        ),
        (
            "grpc-health check --output ".to_owned(),
            ["text", "json"].map(str::to_owned).to_vec(),
        ),
        ("grpc-health list -o j".to_owned(), vec!["json".to_owned()]),
        (
            "/usr/bin/grpc-health completions z".to_owned(),
            vec!["zsh".to_owned()],
        ),
        ("grpc-health che".to_owned(), vec!["check".to_owned()]),
    ];
    for command in commands().await {
        let flags = flags(&command).await;
        let flags = flags.into_iter().map(|flag| format!("--{flag}"));
        cases.push((format!("grpc-health {command} --"), flags.collect()));
    }
    for (line, expected) in cases {
        let Some(offered) = bash_offers(&script, &line).await else {
            eprintln!("SKIPPED: there is no bash, so its completions are not tested");
            return;
        };
        for word in expected {
            assert!(
                offered.contains(&word),
                "`{line}` offers {offered:?}, without {word}"
            );
        }
    }
}
