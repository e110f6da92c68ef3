//! What happens in one run, and what has to come of it: a script drawn from a seed,
//! and a model of the world that it changes. Pure, so that a seed says it all.

use fastrand::Rng;

use super::policies::{Limits, Policies};

/// Names of the services whose health a config may have checked.
pub(super) const SERVICES: [&str; 2] = ["churn.A", "churn.B"];

/// What the source of backends may call them.
pub(super) const KEYS: [&str; 7] = ["k0", "k1", "k2", "k3", "k4", "k5", "k6"];

/// A timeout that calls exceed now and then.
const SHORT_MS: u32 = 50;

/// The whole run of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Everything runs on two threads instead of one.
    pub(super) threads: bool,
    /// The channel is closed before it is dropped.
    pub(super) closes: bool,
    /// How many connections a backend has for its calls.
    pub(super) connections: usize,
    /// The streams that each server allows at a time.
    pub(super) limits: Vec<Option<u32>>,
    pub(super) panics: Panics,
    pub(super) attempts: Limits,
    /// Steps of one volley follow each other without a pause. After each volley the
    /// channel is given the time to come to rest.
    pub(super) volleys: Vec<Vec<Step>>,
}

/// Which hooks of the application panic now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panics {
    /// Backends are dialled by a connector, which panics.
    pub(super) connector: bool,
    /// Calls and health checks bring credentials, which panic.
    pub(super) credentials: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Insert {
        key: usize,
        server: usize,
    },
    /// The key is at another server from now on.
    Move {
        key: usize,
        server: usize,
    },
    Remove {
        key: usize,
    },
    /// Removed and inserted again.
    Renew {
        key: usize,
    },
    Flip {
        server: usize,
        service: usize,
        health: Health,
    },
    /// Its connections are reset, and new ones are refused.
    Kill {
        server: usize,
    },
    /// It says GOAWAY, sees the calls through that it has, and refuses connections.
    Stop {
        server: usize,
    },
    Restart {
        server: usize,
    },
    /// Its connections are reset, and it takes new ones.
    Cut {
        server: usize,
    },
    Say(Word),
    /// The source of backends panics, and says nothing from now on.
    PanicSource,
    /// The source of service configs does.
    PanicConfigs,
    EnterIdle,
    Connect,
    ResetBackoff,
    /// One call is seen through before the next step.
    Call,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Serving,
    NotServing,
    /// It does not know the service: SERVICE_UNKNOWN.
    Unheard,
}

/// What the source of service configs says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Config(Config),
    /// That it has none, which means the empty one.
    Nothing,
    Invalid,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Config {
    /// Whose health is checked.
    pub(super) service: Option<usize>,
    pub(super) wait_for_ready: Option<bool>,
    pub(super) timeout_ms: Option<u32>,
    pub(super) policies: Policies,
}

/// What is true once everything that happened has been noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct World {
    pub(super) servers: Vec<Server>,
    /// Keys and their servers, in the order in which the source named them.
    pub(super) named: Vec<(usize, usize)>,
    /// None if there has been no valid one.
    pub(super) config: Option<Config>,
    pub(super) source_is_over: bool,
    pub(super) configs_are_over: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) accepts: bool,
    /// Of each of [`SERVICES`].
    pub(super) health: [Health; 2],
}

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let servers = rng.usize(3..=6);
        let (threads, closes) = (rng.bool(), rng.bool());
        // Where streams are scarce, calls wait in the queue.
        let narrow = rng.u8(..4) == 0;
        let mut limit = || narrow.then(|| rng.u32(1..=3));
        let limits = (0..servers).map(|_| limit()).collect();
        let mut world = World::new(servers);
        let mut volleys = vec![begin(&mut rng, &mut world)];
        for _ in 0..rng.usize(6..=10) {
            volleys.push(volley(&mut rng, &mut world));
        }
        // What came later is drawn later, or all scripts would be others.
        let connections = rng.usize(1..=3);
        let panics = Panics {
            connector: rng.bool(),
            credentials: rng.bool(),
        };
        for step in [Step::PanicSource, Step::PanicConfigs] {
            if rng.u8(..3) == 0 {
                put_in(&mut rng, step, servers, &mut volleys);
            }
        }
        Policies::put_in(&mut rng, &mut volleys);
        let attempts = Limits::draw(&mut rng);
        volleys.push(world_after(servers, &volleys).repairs());
        Self {
            threads,
            closes,
            connections,
            limits,
            panics,
            attempts,
            volleys,
        }
    }
}

/// Puts the step somewhere after the first volley, and leaves out what is not allowed after
/// it.
fn put_in(rng: &mut Rng, step: Step, servers: usize, volleys: &mut [Vec<Step>]) {
    let mut world = World::new(servers);
    let mut places = Vec::new();
    for (number, volley) in volleys.iter().enumerate() {
        for (at, next) in volley.iter().enumerate() {
            if number > 0 && world.allows(step) {
                places.push((number, at));
            }
            world.apply(*next);
        }
    }
    let Some((number, at)) = rng.choice(places) else {
        return;
    };
    volleys[number].insert(at, step);
    let mut world = World::new(servers);
    for volley in volleys {
        volley.retain(|step| {
            let stays = world.allows(*step);
            if stays {
                world.apply(*step);
            }
            stays
        });
    }
}

fn world_after(servers: usize, volleys: &[Vec<Step>]) -> World {
    let mut world = World::new(servers);
    let steps = volleys.iter().flatten();
    steps.for_each(|step| world.apply(*step));
    world
}

/// The first names and the first config, which now and then is no good.
fn begin(rng: &mut Rng, world: &mut World) -> Vec<Step> {
    let word = match rng.u8(..6) {
        0 => Word::Invalid,
        1 => Word::Nothing,
        _ => Word::Config(config(rng)),
    };
    let mut steps = vec![Step::Say(word)];
    let inserts = (0..world.servers.len()).filter(|_| rng.u8(..4) > 0);
    steps.extend(inserts.map(|server| Step::Insert {
        key: server,
        server,
    }));
    if steps.len() == 1 {
        // A source that never says anything keeps the channel waiting for it.
        steps.push(Step::Insert { key: 0, server: 0 });
    }
    rng.shuffle(&mut steps);
    steps.iter().for_each(|step| world.apply(*step));
    steps
}

/// At most one change to the life of a server, and one to the place of a key: what
/// of several has been noticed cannot be seen from outside.
fn volley(rng: &mut Rng, world: &mut World) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let size = rng.usize(1..=6);
    while steps.len() < size {
        let step = draw(rng, world);
        let is_free = steps.iter().all(|earlier| {
            earlier.life().is_none_or(|it| step.life() != Some(it))
                && earlier.key().is_none_or(|it| step.key() != Some(it))
        });
        if is_free && world.allows(step) {
            world.apply(step);
            steps.push(step);
        }
    }
    steps
}

fn draw(rng: &mut Rng, world: &World) -> Step {
    let server = rng.usize(..world.servers.len());
    let key = rng.usize(..=world.servers.len());
    match rng.u8(..44) {
        0..12 => Step::Flip {
            server,
            // Most often one that matters.
            service: match world.config.and_then(|config| config.service) {
                Some(service) if rng.u8(..4) > 0 => service,
                _ => rng.usize(..2),
            },
            health: match rng.u8(..5) {
                0 => Health::Unheard,
                1 | 2 => Health::NotServing,
                _ => Health::Serving,
            },
        },
        12..14 => Step::Kill { server },
        14..16 => Step::Stop { server },
        16..21 => Step::Restart { server },
        21..23 => Step::Cut { server },
        23..26 => Step::Insert { key, server },
        26..28 => Step::Move { key, server },
        28..30 => Step::Remove { key },
        30 => Step::Renew { key },
        31..36 => Step::Say(match rng.u8(..8) {
            0 => Word::Invalid,
            1 => Word::Nothing,
            _ => Word::Config(config(rng)),
        }),
        36 | 37 => Step::EnterIdle,
        38 => Step::Connect,
        39 => Step::ResetBackoff,
        _ => Step::Call,
    }
}

fn config(rng: &mut Rng) -> Config {
    Config {
        service: match rng.u8(..5) {
            0 => None,
            1 | 2 => Some(1),
            _ => Some(0),
        },
        wait_for_ready: match rng.u8(..4) {
            0 => Some(true),
            1 => Some(false),
            _ => None,
        },
        timeout_ms: match rng.u8(..4) {
            0 => Some(SHORT_MS),
            1 => Some(5_000),
            _ => None,
        },
        // Drawn later.
        policies: Policies::default(),
    }
}

impl Step {
    /// Whose life it is about.
    fn life(self) -> Option<usize> {
        match self {
            Self::Kill { server }
            | Self::Stop { server }
            | Self::Restart { server }
            | Self::Cut { server } => Some(server),
            _ => None,
        }
    }

    /// Whose place it is about.
    fn key(self) -> Option<usize> {
        match self {
            Self::Insert { key, .. }
            | Self::Move { key, .. }
            | Self::Remove { key }
            | Self::Renew { key } => Some(key),
            _ => None,
        }
    }
}

impl Plan {
    /// The policies of its configs.
    pub(super) fn policies(&self) -> impl Iterator<Item = Policies> {
        self.volleys.iter().flatten().filter_map(|step| match step {
            Step::Say(Word::Config(config)) => Some(config.policies),
            _ => None,
        })
    }
}

impl World {
    /// All servers are up and healthy, and nobody knows of them.
    pub(super) fn new(servers: usize) -> Self {
        let server = Server {
            accepts: true,
            health: [Health::Serving; 2],
        };
        Self {
            servers: vec![server; servers],
            named: Vec::new(),
            config: None,
            source_is_over: false,
            configs_are_over: false,
        }
    }

    /// Whether the step would change anything, or at least could be taken.
    fn allows(&self, step: Step) -> bool {
        match step {
            _ if step.key().is_some() && self.source_is_over => false,
            Step::Insert { key, .. } => self.server_of(key).is_none(),
            Step::Move { key, server } => self.server_of(key).is_some_and(|at| at != server),
            Step::Remove { key } | Step::Renew { key } => self.server_of(key).is_some(),
            // What it has named stays, and is enough for calls.
            Step::PanicSource => !self.source_is_over && !self.named.is_empty(),
            // So does what is in force, and leaves calls the time that they need at the end.
            Step::PanicConfigs => {
                let timeout = self.config.map(|config| config.timeout_ms);
                !self.configs_are_over && timeout.is_some_and(|ms| ms != Some(SHORT_MS))
            }
            Step::Say(_) => !self.configs_are_over,
            Step::Flip {
                server,
                service,
                health,
            } => self.servers[server].health[service] != health,
            Step::Kill { server } | Step::Stop { server } | Step::Cut { server } => {
                self.servers[server].accepts
            }
            Step::Restart { server } => !self.servers[server].accepts,
            Step::EnterIdle | Step::Connect | Step::ResetBackoff | Step::Call => true,
        }
    }

    pub(super) fn apply(&mut self, step: Step) {
        match step {
            Step::Insert { key, server } => self.named.push((key, server)),
            Step::Move { key, server } => self
                .named
                .iter_mut()
                .filter(|(named, _)| *named == key)
                .for_each(|(_, at)| *at = server),
            Step::Remove { key } => self.named.retain(|(named, _)| *named != key),
            Step::Renew { key } => {
                let renewed = self.server_of(key).map(|server| (key, server));
                self.named.retain(|(named, _)| *named != key);
                self.named.extend(renewed);
            }
            Step::Flip {
                server,
                service,
                health,
            } => self.servers[server].health[service] = health,
            Step::Kill { server } | Step::Stop { server } => self.servers[server].accepts = false,
            Step::Restart { server } => self.servers[server].accepts = true,
            Step::Say(Word::Config(config)) => self.config = Some(config),
            Step::Say(Word::Nothing) => self.config = Some(Config::default()),
            // Nothing is in force before the first valid one, and an invalid one
            // later changes nothing (gRFC A21).
            Step::Say(Word::Invalid) => {}
            Step::PanicSource => self.source_is_over = true,
            Step::PanicConfigs => self.configs_are_over = true,
            Step::Cut { .. }
            | Step::EnterIdle
            | Step::Connect
            | Step::ResetBackoff
            | Step::Call => {}
        }
    }

    /// The servers for which the step may change something.
    pub(super) fn concerned(&self, step: Step) -> Vec<usize> {
        let at = |key| self.server_of(key);
        match step {
            Step::Insert { server, .. }
            | Step::Flip { server, .. }
            | Step::Kill { server }
            | Step::Stop { server }
            | Step::Restart { server }
            | Step::Cut { server } => vec![server],
            Step::Move { key, server } => at(key).into_iter().chain([server]).collect(),
            Step::Remove { key } | Step::Renew { key } => at(key).into_iter().collect(),
            Step::Say(_) | Step::EnterIdle => (0..self.servers.len()).collect(),
            Step::PanicSource
            | Step::PanicConfigs
            | Step::Connect
            | Step::ResetBackoff
            | Step::Call => Vec::new(),
        }
    }

    /// What makes everything good again, and names each server once, as far as the sources
    /// still speak.
    fn repairs(&self) -> Vec<Step> {
        let good = Config {
            service: Some(0),
            ..Config::default()
        };
        let mut steps = vec![Step::Say(Word::Config(good))];
        for server in 0..self.servers.len() {
            steps.push(Step::Restart { server });
            for service in 0..SERVICES.len() {
                let health = Health::Serving;
                steps.push(Step::Flip {
                    server,
                    service,
                    health,
                });
            }
            steps.push(match self.server_of(server) {
                None => Step::Insert {
                    key: server,
                    server,
                },
                Some(_) => Step::Move {
                    key: server,
                    server,
                },
            });
        }
        let extra = self.named.iter().map(|(key, _)| *key);
        let extra = extra.filter(|key| *key >= self.servers.len());
        steps.extend(extra.map(|key| Step::Remove { key }));
        steps.retain(|step| self.allows(*step));
        steps
    }

    pub(super) fn server_of(&self, key: usize) -> Option<usize> {
        let mut named = self.named.iter();
        named.find(|(named, _)| *named == key).map(|(_, at)| *at)
    }

    pub(super) fn is_named(&self, server: usize) -> bool {
        self.named.iter().any(|(_, at)| *at == server)
    }

    /// The service whose health is checked.
    pub(super) fn checked(&self) -> Option<usize> {
        self.config.and_then(|config| config.service)
    }

    /// Whether a backend at this server is READY, if there is one.
    pub(super) fn is_ready(&self, server: usize) -> bool {
        let Some(config) = self.config else {
            return false;
        };
        let Server { accepts, health } = &self.servers[server];
        let is_healthy = |service: usize| health[service] == Health::Serving;
        *accepts && config.service.is_none_or(is_healthy)
    }

    /// The servers that calls may go to.
    pub(super) fn in_rotation(&self) -> Vec<usize> {
        (0..self.servers.len())
            .filter(|server| self.is_named(*server) && self.is_ready(*server))
            .collect()
    }
}

#[test]
fn the_same_seed_gives_the_same_script_and_another_another() {
    for seed in 0..200 {
        assert_eq!(Plan::of(seed), Plan::of(seed), "seed {seed}");
        assert_ne!(Plan::of(seed), Plan::of(seed + 1), "seed {seed}");
    }
}

#[test]
fn every_script_can_be_performed_and_ends_well() {
    for seed in 0..2_000 {
        let plan = Plan::of(seed);
        let mut world = World::new(plan.limits.len());
        for step in plan.volleys.iter().flatten() {
            assert!(world.allows(*step), "seed {seed}: {step:?} in {world:?}");
            world.apply(*step);
        }
        let servers = 0..world.servers.len();
        let named: Vec<_> = servers.filter(|server| world.is_named(*server)).collect();
        assert_eq!(world.in_rotation(), named, "seed {seed}");
        assert!(!named.is_empty(), "seed {seed}");
        if !world.source_is_over {
            let each_once = (world.named.len(), named.len());
            assert_eq!(
                each_once,
                (world.servers.len(), world.servers.len()),
                "seed {seed}"
            );
        }
        if !world.configs_are_over {
            assert_eq!(world.checked(), Some(0), "seed {seed}");
        }
    }
}

#[test]
fn scripts_have_every_kind_of_step() {
    let steps = (0..50).flat_map(|seed| Plan::of(seed).volleys.into_iter().flatten());
    let kinds: std::collections::HashSet<_> =
        steps.map(|step| std::mem::discriminant(&step)).collect();
    assert_eq!(kinds.len(), 16);
}
