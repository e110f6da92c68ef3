//! Completions for shells and pages for `man`, made from what the command line is.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::{exit::Exit, output};

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// Shell to generate completions for
    shell: Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Subcommand that the page describes; the default is grpc-health itself
    command: Option<String>,
}

pub(crate) fn completions(args: &CompletionsArgs, mut cli: Command) -> Exit {
    let name = cli.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli, &name, &mut script);
    match args.shell {
        Shell::Bash => output::print(mended_for_bash(&script, &name).as_bytes()),
        _ => output::print(&script),
    }
}

/// clap_complete spells a name with a dash one way where it notes the subcommand, and
/// another way where it looks for its flags, so that it would find none.
fn mended_for_bash(script: &[u8], name: &str) -> String {
    let script = String::from_utf8_lossy(script);
    let noted = name.replace('-', "__");
    let looked_for = name.replace('-', "__subcmd__");
    script
        .replace(
            &format!("{looked_for}__subcmd__"),
            &format!("{noted}__subcmd__"),
        )
        .replace(&format!("_{noted}()"), &format!("_{name}()"))
        .replace(&format!("-F _{noted} "), &format!("-F _{name} "))
}

pub(crate) fn man(args: &ManArgs, mut cli: Command) -> Exit {
    cli.build();
    let about = match &args.command {
        None => Some(&cli),
        Some(name) => cli.find_subcommand(name),
    };
    let Some(about) = about else {
        let name = args.command.as_deref().unwrap_or_default();
        return Exit::bad_arguments(format_args!("there is no command `{name}`"));
    };
    let mut page = Vec::new();
    match clap_mangen::Man::new(about.clone()).render(&mut page) {
        Ok(()) => output::print(&page),
        Err(error) => Exit::bad_arguments(format_args!("cannot generate the man page: {error}")),
    }
}
