//! Whose health is checked: by the service config, else by the application.

use super::policy::Policy;
use crate::service_config::ServiceConfig;

/// What the application says of health checks, besides its service config.
pub(crate) struct HealthChoice {
    /// The service to ask for where the config says nothing.
    pub(crate) service: Option<String>,
    /// There are options for how it is asked for, and no config comes but the one.
    pub(crate) has_options: bool,
    /// It is not asked for, whatever the config says.
    pub(crate) is_disabled: bool,
}

/// What a config makes of it.
#[derive(Debug, PartialEq)]
pub(super) enum Chosen<'a> {
    Off,
    Disabled { service: &'a str, why: String },
    Of(&'a str),
}

impl HealthChoice {
    /// What is in force, and what of it is worth a warning.
    pub(super) fn under<'a>(&'a self, config: &'a ServiceConfig) -> (Chosen<'a>, Option<String>) {
        let own = self.service.as_deref();
        let of_config = config.health_check_service();
        let service = match config.speaks_of_health() {
            true => of_config,
            false => own,
        };
        let Some(service) = service else {
            let warning = match own {
                Some(own) => Some(format!(
                    "healthCheckConfig names no service, so {own:?} of \
                     `ChannelBuilder::health_check` has no effect"
                )),
                None if self.has_options && !self.is_disabled => Some(
                    "the HealthOptions have no effect: no service name is set, so health is not \
                     checked"
                        .to_owned(),
                ),
                None => None,
            };
            return (Chosen::Off, warning);
        };
        let warning = own.filter(|own| *own != service).map(|own| {
            format!(
                "healthCheckConfig names {service:?}, so {own:?} of \
                 `ChannelBuilder::health_check` has no effect"
            )
        });
        let policy = config.policy();
        let why = if !Policy::properties(policy.parts().leaf).checks_health {
            format!("{policy} does not check health")
        } else if self.is_disabled {
            "they are disabled for this channel".to_owned()
        } else {
            return (Chosen::Of(service), warning);
        };
        (Chosen::Disabled { service, why }, warning)
    }
}

#[cfg(test)]
mod tests {
    use super::{Chosen, HealthChoice};
    use crate::service_config::ServiceConfig;

    // D289
    #[test]
    fn the_config_wins_where_it_speaks_of_health() {
        let silent = "{}";
        let empty = r#"{"healthCheckConfig": {}}"#;
        let of_a = r#"{"healthCheckConfig": {"serviceName": "a"}}"#;
        let whole = r#"{"healthCheckConfig": {"serviceName": ""}}"#;
        type Row<'a> = (&'a str, Option<&'a str>, Chosen<'a>, Option<&'a str>);
        let rows: &[Row<'_>] = &[
            (silent, None, Chosen::Off, None),
            (empty, None, Chosen::Off, None),
            (of_a, None, Chosen::Of("a"), None),
            (silent, Some("b"), Chosen::Of("b"), None),
            (of_a, Some("a"), Chosen::Of("a"), None),
            (
                whole,
                Some("b"),
                Chosen::Of(""),
                Some("names \"\", so \"b\""),
            ),
            (
                of_a,
                Some("b"),
                Chosen::Of("a"),
                Some("names \"a\", so \"b\""),
            ),
            (
                empty,
                Some("b"),
                Chosen::Off,
                Some("names no service, so \"b\""),
            ),
        ];
        for (config, own, chosen, warning) in rows {
            let config: ServiceConfig = config.parse().expect("a config");
            let choice = HealthChoice {
                service: own.map(str::to_owned),
                has_options: false,
                is_disabled: false,
            };
            let (is, said) = choice.under(&config);
            assert_eq!(is, *chosen, "{config:?}, {own:?}");
            let said = said.unwrap_or_default();
            assert!(said.contains(warning.unwrap_or_default()), "{said}");
            assert_eq!(said.is_empty(), warning.is_none(), "{said}");
        }
    }

    // D289
    #[test]
    fn options_without_a_service_are_a_warning() {
        let choice = |service: Option<&str>| HealthChoice {
            service: service.map(str::to_owned),
            has_options: true,
            is_disabled: false,
        };
        let config = ServiceConfig::default();
        let choice_of_none = choice(None);
        let (_, warning) = choice_of_none.under(&config);
        let warning = warning.expect("there is one");
        assert!(
            warning.contains("HealthOptions have no effect"),
            "{warning}"
        );
        assert_eq!(choice(Some("a")).under(&config), (Chosen::Of("a"), None));
    }
}
