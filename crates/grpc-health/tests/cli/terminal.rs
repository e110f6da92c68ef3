//! `watch` on a terminal: what is to be seen there, and what is left behind.

use std::{
    io::{Read, Write},
    num::NonZeroU16,
    thread,
};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use testing::{Backend, PATIENCE, dead_addr, within};
use tokio::{sync::watch, task, time};
use vt100::{Parser, Screen};

use super::run::{ASK_SHORTLY, COMMAND};

/// A terminal in which the command runs.
struct Terminal {
    /// Until its end is waited for.
    child: Option<Box<dyn Child + Send + Sync>>,
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    /// What is to be seen. Changes with everything that the command writes.
    screen: watch::Sender<Parser>,
}

impl Terminal {
    fn start(size: (u16, u16), arguments: &[&str]) -> Self {
        Self::start_with(size, arguments, |_| {})
    }

    fn start_with(
        (columns, rows): (u16, u16),
        arguments: &[&str],
        set: impl FnOnce(&mut CommandBuilder),
    ) -> Self {
        let pair = native_pty_system()
            .openpty(pty_size(columns, rows))
            .expect("a terminal");
        let mut command = CommandBuilder::new(COMMAND);
        command.args(arguments);
        command.env("TERM", "xterm-256color");
        command.env_remove("NO_COLOR");
        command.env(ASK_SHORTLY.0, ASK_SHORTLY.1);
        set(&mut command);
        let child = pair
            .slave
            .spawn_command(command)
            .expect("the command can be run");
        let mut output = pair.master.try_clone_reader().expect("a reader");
        let screen = watch::Sender::new(Parser::new(size(rows), size(columns), 100));
        let written = screen.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The end of the command is an error here.
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                written.send_modify(|screen| screen.process(&bytes[..read]));
            }
        });
        Self {
            child: Some(child),
            keys: pair.master.take_writer().expect("a writer"),
            master: pair.master,
            screen,
        }
    }

    /// Waits for the screen to look like this.
    async fn until(&self, what: &str, is_it: impl Fn(&Screen) -> bool) {
        let mut screen = self.screen.subscribe();
        let looks = screen.wait_for(|parser| is_it(parser.screen()));
        if time::timeout(PATIENCE, looks).await.is_err() {
            let contents = self.screen.borrow().screen().contents();
            panic!("waited {PATIENCE:?} for {what}; the screen is\n{contents}");
        }
    }

    async fn until_rows(&self, what: &str, is_it: impl Fn(&[String]) -> bool) {
        self.until(what, |screen| is_it(&rows(screen))).await;
    }

    fn press(&mut self, key: &str) {
        self.keys
            .write_all(key.as_bytes())
            .expect("a key can be pressed");
    }

    /// The terminal is made another size.
    fn resize(&self, columns: u16, rows: u16) {
        self.screen.send_modify(|parser| {
            parser.screen_mut().set_size(size(rows), size(columns));
        });
        self.master.resize(pty_size(columns, rows)).expect("a size");
    }

    async fn exit_code(&mut self) -> u32 {
        let mut child = self.child.take().expect("it ends once");
        let ended = task::spawn_blocking(move || child.wait());
        let status = within("the command to end", ended).await;
        status.expect("no panic").expect("a status").exit_code()
    }
}

fn size(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).expect("a screen has some size")
}

fn pty_size(columns: u16, rows: u16) -> PtySize {
    PtySize {
        rows,
        cols: columns,
        pixel_width: 0,
        pixel_height: 0,
    }
}

/// What stands in each row, without what is empty at its end and below.
fn rows(screen: &Screen) -> Vec<String> {
    let (_, columns) = screen.size();
    let rows = screen.rows(0, columns.get());
    let mut rows: Vec<_> = rows.map(|row| row.trim_end().to_owned()).collect();
    while rows.pop_if(|row| row.is_empty()).is_some() {}
    rows
}

/// The first words of a row, and none of those that depend on the time.
fn says(row: &str, words: &[&str]) -> bool {
    row.split_whitespace()
        .take(words.len())
        .eq(words.iter().copied())
}

#[tokio::test]
async fn the_table_shows_each_flip_in_place() {
    let [a, b] = Backend::builder().start_each(["a", "b"]).await;
    let [at_a, at_b] = [&a, &b].map(|backend| backend.addr().to_string());
    let terminal = Terminal::start((100, 24), &["watch", &at_a, &at_b]);
    let both_serve = |rows: &[String]| {
        rows.len() == 3
            && says(
                &rows[0],
                &[
                    "BACKEND", "STATE", "HEALTH", "SINCE", "FLIPS", "LAST", "ERROR",
                ],
            )
            && says(&rows[1], &[&at_a, "READY", "SERVING"])
            && says(&rows[2], &[&at_b, "READY", "SERVING"])
    };
    terminal
        .until_rows("two backends that serve", both_serve)
        .await;
    terminal.until("no cursor", Screen::hide_cursor).await;

    b.set_not_serving("").await;
    let one_fails = |rows: &[String]| {
        rows.len() == 3
            && says(&rows[1], &[&at_a, "READY", "SERVING"])
            && says(&rows[2], &[&at_b, "TRANSIENT_FAILURE", "NOT_SERVING"])
            && rows[2].contains("  1      health check: NOT_SERVING (")
    };
    terminal
        .until_rows("the second to fail, and one flip", one_fails)
        .await;

    b.set_serving("").await;
    let back = |rows: &[String]| {
        rows.len() == 3
            && says(&rows[2], &[&at_b, "READY", "SERVING"])
            // The error stays, with its age.
            && rows[2].contains("  2      health check: NOT_SERVING (")
    };
    terminal
        .until_rows("the second to be back, and two flips", back)
        .await;
}

#[tokio::test]
async fn states_have_colours_and_with_no_color_they_have_none() {
    let backend = Backend::start().await;
    let dead = dead_addr();
    let [at, dead] = [backend.addr(), dead.addr()].map(|addr| addr.to_string());
    let arguments = ["watch", &at, &dead];
    let coloured = Terminal::start((100, 24), &arguments);
    let without = Terminal::start_with((100, 24), &arguments, |command| {
        command.env("NO_COLOR", "1");
    });
    let is_settled = |rows: &[String]| {
        rows.len() == 3 && rows[1].contains("READY") && rows[2].contains("TRANSIENT_FAILURE")
    };
    for (terminal, colours) in [(&coloured, true), (&without, false)] {
        terminal.until_rows("both backends", is_settled).await;
        let parser = terminal.screen.borrow();
        let colour_of = |row: u16, word: &str| {
            let text = &rows(parser.screen())[usize::from(row)];
            let column = text.find(word).expect("the word is there");
            let column = u16::try_from(column).expect("a column");
            parser.screen().cell(row, column).expect("a cell").fgcolor()
        };
        let [good, bad] = [colour_of(1, "READY"), colour_of(2, "TRANSIENT")];
        assert_eq!(good != vt100::Color::Default, colours, "{good:?}");
        assert_eq!(bad != vt100::Color::Default, colours, "{bad:?}");
        assert_eq!(good != bad, colours);
    }
}

#[tokio::test]
async fn the_table_fits_the_terminal_and_says_what_it_leaves_out() {
    let backends = Backend::builder()
        .start_each(["a", "b", "c", "d", "e"])
        .await;
    backends[4].set_not_serving("").await;
    let targets = backends
        .each_ref()
        .map(|backend| backend.addr().to_string());
    let mut arguments = vec!["watch"];
    arguments.extend(targets.iter().map(String::as_str));
    // One row is the cursor's.
    let terminal = Terminal::start((100, 5), &arguments);
    let cut = |rows: &[String]| {
        rows.len() == 4
            && says(&rows[2], &[&targets[1], "READY"])
            && rows[3] == "… and 3 more, 1 of them not READY"
    };
    terminal.until_rows("two backends of five", cut).await;

    terminal.resize(100, 24);
    let whole = |rows: &[String]| {
        let is_shown = |(row, target): (&String, &String)| says(row, &[target]);
        rows.len() == 6 && rows[1..].iter().zip(&targets).all(is_shown)
    };
    terminal.until_rows("all five backends", whole).await;

    terminal.resize(30, 24);
    let port = backends[0].addr().port().to_string();
    let shortened = format!("127.0…{}  ", &port[port.len() - 4..]);
    let narrow = |rows: &[String]| {
        let fits = |row: &String| row.chars().count() <= 30;
        rows.len() == 6
            && rows.iter().all(fits)
            && rows.iter().all(|row| row.ends_with('…'))
            && rows[1].starts_with(&shortened)
    };
    terminal.until_rows("rows that are cut", narrow).await;
    // Once more wide, to show that nothing of the narrow table is left.
    terminal.resize(100, 24);
    terminal.until_rows("all five backends again", whole).await;
}

#[tokio::test]
async fn a_source_that_fails_is_in_the_table() {
    let target = "no-such-host.invalid:1";
    let terminal = Terminal::start((120, 24), &["watch", target]);
    let told = |rows: &[String]| {
        rows.len() == 2
            && says(&rows[1], &[target, "TRANSIENT_FAILURE", "-"])
            && rows[1].contains("name resolver error")
    };
    terminal.until_rows("the error of the name", told).await;
}

#[tokio::test]
async fn the_table_stays_and_ctrl_c_gives_the_cursor_back() {
    let backend = Backend::start().await;
    let at = backend.addr().to_string();
    let mut terminal = Terminal::start((100, 24), &["watch", &at]);
    let is_up = |rows: &[String]| rows.len() == 2 && says(&rows[1], &[&at, "READY", "SERVING"]);
    terminal.until_rows("the backend", is_up).await;
    terminal.until("no cursor", Screen::hide_cursor).await;
    terminal.press("\x03");
    assert_eq!(terminal.exit_code().await, 130);
    terminal
        .until("the cursor", |screen| !screen.hide_cursor())
        .await;
    // The table stays, the `^C` of the terminal does not; the shell goes on below.
    terminal.until_rows("the table", is_up).await;
    terminal
        .until("the cursor below", |screen| {
            screen.cursor_position() == (2, 0)
        })
        .await;
}

#[tokio::test]
async fn the_end_of_a_wait_gives_the_cursor_back() {
    let backend = Backend::builder().not_serving("").start().await;
    let at = backend.addr().to_string();
    let mut terminal = Terminal::start((100, 24), &["watch", &at, "--until", "serving"]);
    let fails = |rows: &[String]| rows.len() == 2 && rows[1].contains("NOT_SERVING");
    terminal
        .until_rows("a backend that does not serve", fails)
        .await;
    backend.set_serving("").await;
    assert_eq!(terminal.exit_code().await, 0);
    terminal
        .until("the cursor", |screen| !screen.hide_cursor())
        .await;
    let serves = |rows: &[String]| rows.len() == 2 && says(&rows[1], &[&at, "READY", "SERVING"]);
    terminal.until_rows("the last state", serves).await;
}

#[tokio::test]
async fn a_list_fits_the_terminal() {
    let name = format!("shop{}Cart", "x".repeat(70_000));
    let builder = Backend::builder().scripted().no_services().serving("api");
    let backend = builder.not_serving(&name).start().await;
    let at = backend.addr().to_string();
    let mut terminal = Terminal::start((40, 24), &["list", &at]);
    assert_eq!(terminal.exit_code().await, 0);
    let expected = [
        format!("{:29}STATUS", "SERVICE"),
        format!("{:29}SERVING", "api"),
        format!("shop{}…{}Cart  NOT_SERVING", "x".repeat(9), "x".repeat(9)),
    ];
    terminal
        .until_rows("three rows", |rows| rows == expected)
        .await;
}

#[tokio::test]
async fn texts_of_a_peer_do_not_reach_the_terminal() {
    let harm = "a\u{1b}]0;owned\u{7}\u{1b}[2J\r\nb\u{9b}2J\u{202e}";
    let backend = Backend::builder().scripted().serving(harm).start().await;
    let at = backend.addr().to_string();
    let shown = "a\\u{1b}]0;owned\\u{7}\\u{1b}[2J\\r\\nb\\u{9b}2J\\u{202e}";
    for arguments in [
        ["list", &at].as_slice(),
        &["check", &at, "--service", harm, "--service", ""],
        &["watch", &at, "--service", harm, "--service", ""],
    ] {
        let terminal = Terminal::start((200, 24), arguments);
        let is_shown = |rows: &[String]| rows.iter().any(|row| row.contains(shown));
        terminal
            .until_rows("the name, with escapes", is_shown)
            .await;
    }
}
