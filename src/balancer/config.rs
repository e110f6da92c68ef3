//! Which service config is in force (gRFC A21).
//!
//! ```text
//!                   the source says
//!   Awaited ──── a config ─────► that one
//!      │    ──── none ─────────► the application's, or the empty one
//!      │    ──── an invalid one ► the application's; without one, nothing: calls fail
//!      └─ and later: an invalid one changes nothing, all else as above
//! ```

use crate::error::Cause;

/// The configs there are: the application's own, and what its source says.
#[derive(Debug)]
pub(super) struct Configs<T> {
    default: Option<T>,
    source: ResolvedConfig<T>,
    /// Why the last word of the source is not in force.
    rejected: Option<Cause>,
}

#[derive(Debug)]
enum ResolvedConfig<T> {
    /// It has not said anything valid.
    Awaited,
    Said(T),
    /// There is no source, or it has no config: the application's is in force.
    None,
}

impl<T: Clone + Default> Configs<T> {
    /// With `awaited`, nothing is in force before the source's first word.
    pub(super) fn new(default: Option<T>, awaited: bool) -> Self {
        Self {
            default,
            source: if awaited {
                ResolvedConfig::Awaited
            } else {
                ResolvedConfig::None
            },
            rejected: None,
        }
    }

    /// What the source says now; `None` if it has no config for this channel.
    pub(super) fn on_update(&mut self, update: Result<Option<T>, Cause>) {
        self.rejected = None;
        match update {
            Ok(Some(config)) => self.source = ResolvedConfig::Said(config),
            Ok(None) => self.source = ResolvedConfig::None,
            Err(cause) => self.rejected = Some(cause),
        }
    }

    /// The source will say nothing more. If it never said anything, it has no
    /// config.
    pub(super) fn on_end(&mut self) {
        if matches!(self.source, ResolvedConfig::Awaited) && self.rejected.is_none() {
            self.source = ResolvedConfig::None;
        }
    }

    /// `None` while calls have to wait for a config, or fail for want of one.
    pub(super) fn in_force(&self) -> Option<T> {
        match &self.source {
            ResolvedConfig::Said(config) => Some(config.clone()),
            ResolvedConfig::None => Some(self.default.clone().unwrap_or_default()),
            ResolvedConfig::Awaited if self.rejected.is_some() => self.default.clone(),
            ResolvedConfig::Awaited => None,
        }
    }

    /// Why the last config of the source is not in force.
    pub(super) fn rejected(&self) -> Option<&Cause> {
        self.rejected.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::Configs;
    use crate::error::{Cause, CauseKind};

    fn invalid() -> Result<Option<&'static str>, Cause> {
        Err(Cause::new(CauseKind::ServiceConfig, "invalid"))
    }

    #[track_caller]
    fn in_force(
        default: Option<&'static str>,
        updates: impl IntoIterator<Item = Result<Option<&'static str>, Cause>>,
        expected: Option<&str>,
    ) {
        let mut configs = Configs::new(default, true);
        let mut rejected = false;
        for update in updates {
            rejected = update.is_err();
            configs.on_update(update);
        }
        assert_eq!(configs.in_force(), expected);
        assert_eq!(configs.rejected().is_some(), rejected);
    }

    #[test]
    fn without_a_source_the_application_decides() {
        assert_eq!(Configs::new(Some("own"), false).in_force(), Some("own"));
        assert_eq!(Configs::<&str>::new(None, false).in_force(), Some(""));
    }

    #[test]
    fn the_first_word_is_awaited() {
        in_force(None, [], None);
        in_force(Some("own"), [], None);
    }

    // V14
    #[test]
    fn the_sources_config_stands_before_the_applications() {
        in_force(Some("own"), [Ok(Some("a"))], Some("a"));
        in_force(Some("own"), [Ok(Some("a")), Ok(Some("b"))], Some("b"));
    }

    // V14
    #[test]
    fn the_applications_is_for_when_the_source_has_none() {
        in_force(Some("own"), [Ok(None)], Some("own"));
        in_force(Some("own"), [Ok(Some("a")), Ok(None)], Some("own"));
        in_force(None, [Ok(None)], Some(""));
    }

    // V13
    #[test]
    fn an_invalid_first_one_leaves_the_applications_or_nothing() {
        in_force(Some("own"), [invalid()], Some("own"));
        in_force(None, [invalid()], None);
        in_force(None, [invalid(), Ok(Some("a"))], Some("a"));
    }

    // V13
    #[test]
    fn an_invalid_later_one_changes_nothing() {
        in_force(Some("own"), [Ok(Some("a")), invalid()], Some("a"));
        in_force(Some("own"), [Ok(None), invalid()], Some("own"));
        in_force(None, [Ok(None), invalid()], Some(""));
        in_force(None, [Ok(Some("a")), invalid(), Ok(Some("b"))], Some("b"));
    }

    #[test]
    fn a_source_that_ends_without_a_word_has_none() {
        let mut configs = Configs::new(Some("own"), true);
        configs.on_end();
        assert_eq!(configs.in_force(), Some("own"));

        let mut configs = Configs::new(Some("own"), true);
        configs.on_update(Ok(Some("a")));
        configs.on_end();
        assert_eq!(configs.in_force(), Some("a"), "its last word stays");

        let mut configs = Configs::new(None, true);
        configs.on_update(invalid());
        configs.on_end();
        assert_eq!(configs.in_force(), None);
    }
}
