//! Policies as JSON, both ways.

use super::{
    least_request::LeastRequest, outlier_detection::OutlierDetection, policy::LoadBalancingPolicy,
    ring_hash::RingHash, weighted_round_robin::WeightedRoundRobin, write,
};
use crate::{
    error::Error,
    service_config::{
        read::boolean,
        value::{Field, Json, Object},
    },
};

type Result<T, E = Error> = std::result::Result<T, E>;

/// Policies that a policy stands in, and that may not stand in it again.
#[derive(Clone, Copy, Default)]
struct Around {
    outlier_detection: bool,
    random_subsetting: bool,
}

/// The first known policy of a list (gRFC A24). Every entry must have the shape of one,
/// but only the content of the chosen one is looked at.
pub(in crate::service_config) fn listed(field: &Field<'_>) -> Result<LoadBalancingPolicy> {
    listed_in(field, Around::default())
}

/// The policy of this name, as it is without a config of its own.
///
/// # Errors
///
/// None is known by that name, or it needs a config.
pub(in crate::service_config) fn named(
    field: &Field<'_>,
    name: &str,
) -> Result<LoadBalancingPolicy> {
    let mut leaves = LoadBalancingPolicy::LEAVES.iter().map(|leaf| leaf());
    match leaves.find(|leaf| leaf.name() == name) {
        Some(leaf) => Ok(leaf),
        None => {
            let names = LoadBalancingPolicy::LEAVES.map(|leaf| leaf().name());
            Err(field.rejected(must_be_one_of(&names)))
        }
    }
}

/// The entry of a list that names a policy.
pub(in crate::service_config) fn written(policy: &LoadBalancingPolicy) -> Json {
    let config = match policy {
        LoadBalancingPolicy::RoundRobin => write::object([]),
        LoadBalancingPolicy::PickFirst {
            shuffle_address_list,
        } => write::object([("shuffleAddressList", Json::Bool(*shuffle_address_list))]),
        LoadBalancingPolicy::LeastRequest(config) => config.write(),
        LoadBalancingPolicy::WeightedRoundRobin(config) => config.write(),
        LoadBalancingPolicy::RingHash(config) => config.write(),
        LoadBalancingPolicy::RandomSubsetting { subset_size, child } => write::object([
            ("subsetSize", write::integer(*subset_size)),
            ("childPolicy", Json::List(vec![written(child)])),
        ]),
        LoadBalancingPolicy::OutlierDetection { config, child } => {
            config.write(Json::List(vec![written(child)]))
        }
    };
    write::object([(policy.name(), config)])
}

fn listed_in(field: &Field<'_>, around: Around) -> Result<LoadBalancingPolicy> {
    let entries: Vec<_> = field.list()?.iter().map(entry).collect::<Result<_>>()?;
    for (name, content) in &entries {
        if let Some(policy) = read(name, content, around)? {
            return Ok(policy);
        }
    }
    let names = entries.iter().map(|(name, _)| Json::from(*name)).collect();
    let known: Vec<_> = known().collect();
    Err(field.rejected_with(must_be_one_of(&known), Json::List(names)))
}

/// Whether a list may name this policy.
pub(in crate::service_config) fn is_known(name: &str) -> bool {
    known().any(|known| known == name)
}

fn known() -> impl Iterator<Item = &'static str> {
    let around = [
        LoadBalancingPolicy::OUTLIER_DETECTION,
        LoadBalancingPolicy::RANDOM_SUBSETTING,
    ];
    let leaves = LoadBalancingPolicy::LEAVES.iter();
    leaves.map(|leaf| leaf().name()).chain(around)
}

fn entry<'a>(entry: &Field<'a>) -> Result<(&'a str, Field<'a>)> {
    let object = entry.object()?;
    let mut members = object.members();
    match (members.next(), members.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(entry.rejected("must have exactly one key, the name of a policy")),
    }
}

/// The policy of this name with the config in `content`, if the name is known.
fn read(name: &str, content: &Field<'_>, around: Around) -> Result<Option<LoadBalancingPolicy>> {
    Ok(Some(match name {
        "round_robin" => {
            content.object()?;
            LoadBalancingPolicy::RoundRobin
        }
        "pick_first" => LoadBalancingPolicy::PickFirst {
            shuffle_address_list: content
                .object()?
                .optional("shuffleAddressList", boolean)?
                .unwrap_or(false),
        },
        "least_request_experimental" => {
            LoadBalancingPolicy::LeastRequest(LeastRequest::read(&content.object()?)?)
        }
        "weighted_round_robin" => LoadBalancingPolicy::WeightedRoundRobin(Box::new(
            WeightedRoundRobin::read(&content.object()?)?,
        )),
        "ring_hash_experimental" => {
            LoadBalancingPolicy::RingHash(RingHash::read(&content.object()?)?)
        }
        LoadBalancingPolicy::RANDOM_SUBSETTING => {
            refuse_again(content, around.random_subsetting)?;
            let config = content.object()?;
            LoadBalancingPolicy::RandomSubsetting {
                subset_size: subset_size(&config.get("subsetSize"))?,
                child: Box::new(child(
                    &config,
                    Around {
                        random_subsetting: true,
                        ..around
                    },
                )?),
            }
        }
        LoadBalancingPolicy::OUTLIER_DETECTION => {
            refuse_again(content, around.outlier_detection)?;
            let config = content.object()?;
            LoadBalancingPolicy::OutlierDetection {
                config: Box::new(OutlierDetection::read(&config)?),
                child: Box::new(child(
                    &config,
                    Around {
                        outlier_detection: true,
                        ..around
                    },
                )?),
            }
        }
        _ => return Ok(None),
    }))
}

fn child(config: &Object<'_>, around: Around) -> Result<LoadBalancingPolicy> {
    let field = config.get("childPolicy");
    match field.is_present() {
        true => listed_in(&field, around),
        false => Err(field.rejected("must be a list of policies")),
    }
}

fn refuse_again(content: &Field<'_>, stands_in_it: bool) -> Result<()> {
    match stands_in_it {
        true => Err(content.rejected("must not stand in another policy of its name")),
        false => Ok(()),
    }
}

fn subset_size(field: &Field<'_>) -> Result<u32> {
    let size = field.as_u32().filter(|size| *size > 0);
    size.ok_or_else(|| field.rejected("must be an integer of at least 1"))
}

fn must_be_one_of(names: &[&str]) -> String {
    format!(
        "must name a policy that this channel knows ({})",
        names.join(", ")
    )
}
