//! The world as it is: servers, a channel over them, and how a step is taken.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt::Write,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use testing::{Backend, NOT_SERVING, PATIENCE, SERVING, quick_backoff, quick_health};
use tokio::{sync::watch, task::yield_now, time::timeout};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    Endpoint, Error, ServiceConfig,
    channel::Change,
    health::HealthStatus,
    status::{BackendId, BackendStatus, CauseKind, ChannelStatus},
};

use super::{
    Journal,
    callers::{Call, Callers, Crowd, Kind, Moment, Truth},
    hooks::{Hooks, Voice},
    ledger::Ledger,
    plan::{Config, Health, KEYS, Plan, SERVICES, Step, Word, World},
    policies::{Limits, Policies},
    verdict::Evidence,
};

type Update = Result<Option<ServiceConfig>, Error>;
type Naming = Result<Change<&'static str, Endpoint>, Infallible>;

/// Of some seeds. No server is as slow, however busy the machine is.
const SILENCE: Duration = Duration::from_secs(2);

pub(super) struct Stage {
    journal: Journal,
    narrow: bool,
    connections: usize,
    attempts: Limits,
    /// The most attempts that any of its configs allows.
    max_attempts: u32,
    hedges: bool,
    world: World,
    servers: Vec<Backend>,
    hooks: Hooks,
    /// Of a channel whose calls are recorded: every second.
    pub(super) ledger: Option<Ledger>,
}

/// A channel, and what it hears.
pub(super) struct Play<'a> {
    stage: &'a mut Stage,
    channel: Channel,
    names: Voice<Naming>,
    words: Voice<Update>,
    moment: watch::Sender<Moment>,
    crowd: Crowd,
    /// Servers that were cut since the last rest, and how many connections they had
    /// taken before.
    cut: Vec<(usize, usize)>,
    /// Keys that were renewed since, and whom they must not name any more.
    renewed: Vec<(usize, BackendId)>,
}

impl Stage {
    pub(super) async fn set(seed: u64, plan: &Plan, journal: Journal) -> Self {
        let mut servers = Vec::new();
        for (number, limit) in plan.limits.iter().enumerate() {
            let mut builder = Backend::builder().scripted().name(&format!("s{number}"));
            builder = SERVICES.iter().fold(builder, |b, name| b.serving(name));
            if let Some(limit) = limit {
                builder = builder.max_concurrent_streams(*limit);
            }
            servers.push(builder.start().await);
        }
        Self {
            journal,
            narrow: plan.limits.iter().any(Option::is_some),
            connections: plan.connections,
            attempts: plan.attempts,
            max_attempts: plan
                .policies()
                .map(|policies| policies.max_attempts(plan.attempts))
                .max()
                .unwrap_or(1),
            hedges: plan.policies().any(Policies::hedges),
            world: World::new(servers.len()),
            servers,
            hooks: Hooks::new(seed, plan.panics),
            ledger: seed.is_multiple_of(2).then(Ledger::default),
        }
    }

    pub(super) fn open(&mut self, seed: u64) -> Play<'_> {
        let (names, source) = Voice::new();
        let (words, updates) = Voice::new();
        let builder = Channel::balance(source)
            .connect_backoff(quick_backoff())
            .health_options(quick_health())
            .service_config_updates(updates)
            .tell_backend(true)
            .tell_attempts(true)
            .max_call_attempts(NonZeroU32::new(self.attempts.max_attempts).expect("1 to 5"))
            .retry_buffer_per_call(self.attempts.buffer_per_call)
            .retry_buffer(self.attempts.buffer)
            .connections_per_backend(NonZeroUsize::new(self.connections).expect("1 to 3"))
            .silence(seed.is_multiple_of(3).then_some(SILENCE));
        let builder = match &self.ledger {
            Some(ledger) => ledger.attach(builder),
            None => builder,
        };
        let channel = self.hooks.credentials(builder).build();
        let nothing = Truth {
            number: 0,
            news: 0,
            is_in: false,
        };
        let moment = watch::Sender::new(Moment {
            number: 0,
            rest: None,
            max_attempts: self.max_attempts,
            truths: Arc::new(vec![nothing; self.servers.len()]),
        });
        let crowd = Crowd::start(seed, channel.clone(), moment.subscribe());
        Play {
            stage: self,
            channel,
            names,
            words,
            moment,
            crowd,
            cut: Vec::new(),
            renewed: Vec::new(),
        }
    }

    pub(super) fn servers(&self) -> &[Backend] {
        &self.servers
    }

    pub(super) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// How many backends the source has named at each server.
    pub(super) fn backends(&self) -> Vec<usize> {
        let mut backends = vec![0; self.servers.len()];
        let named = self.world.named.iter();
        named.for_each(|(_, server)| backends[*server] += 1);
        backends
    }

    pub(super) fn evidence(&self) -> Evidence {
        let mut arrivals = HashMap::<_, Vec<_>>::new();
        for (number, server) in self.servers.iter().enumerate() {
            for id in server.ids() {
                arrivals.entry(id).or_default().push(number);
            }
        }
        let servers = self.servers.iter();
        Evidence {
            servers: servers
                .map(|s| (s.name().to_owned(), s.addr().to_string()))
                .collect(),
            arrivals,
            narrow: self.narrow,
            panicked: self.hooks.calls(),
            max_attempts: self.max_attempts,
            hedges: self.hedges,
        }
    }
}

impl Play<'_> {
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    fn callers(&self) -> &Arc<Callers> {
        self.crowd.callers()
    }

    /// The steps of one volley, and then the rest.
    pub(super) async fn perform(&mut self, volley: &[Step]) {
        for step in volley {
            self.stage.journal.note(format!("{step:?}"));
            let concerned = self.stage.world.concerned(*step);
            self.begin_news(&concerned);
            self.take(*step).await;
            self.stage.world.apply(*step);
            self.end_news(&concerned);
            yield_now().await;
        }
        self.come_to_rest().await;
        self.enjoy_rest().await;
    }

    async fn take(&mut self, step: Step) {
        let servers = &self.stage.servers;
        match step {
            Step::Insert { key, server } | Step::Move { key, server } => {
                let endpoint = self.stage.hooks.endpoint(servers[server].uri());
                self.names.say(Ok(Change::Insert(KEYS[key], endpoint)));
            }
            Step::Remove { key } => self.names.say(Ok(Change::Remove(KEYS[key]))),
            Step::Renew { key } => {
                let backends = self.channel.backends();
                let old = backends.iter().find(|b| b.label() == KEYS[key]);
                self.renewed.extend(old.map(|old| (key, old.id())));
                let server = self.stage.world.server_of(key).expect("it is named");
                let endpoint = self.stage.hooks.endpoint(servers[server].uri());
                self.names.say(Ok(Change::Remove(KEYS[key])));
                self.names.say(Ok(Change::Insert(KEYS[key], endpoint)));
            }
            Step::Flip {
                server,
                service,
                health,
            } => set_health(&servers[server], service, health).await,
            Step::Kill { server } => servers[server].kill().await,
            Step::Restart { server } => servers[server].restart().await,
            // The drain begins now, and ends whenever the calls do.
            Step::Stop { server } => drop(servers[server].stop_gracefully()),
            Step::Cut { server } => {
                self.cut.push((server, servers[server].connections()));
                servers[server].cut_connections();
            }
            Step::Say(word) => self.words.say(update(word)),
            Step::PanicSource => self.names.panic(),
            Step::PanicConfigs => self.words.panic(),
            Step::EnterIdle => self.channel.enter_idle(),
            Step::Connect => self.channel.request_connection(),
            Step::ResetBackoff => self.channel.reset_connect_backoff(),
            Step::Call => {
                let deadline = Duration::from_millis(100);
                self.callers().say_hello(Kind::Plain, deadline, 1).await;
            }
        }
    }

    /// Waits until all that happened has been noticed: no news is on its way any more.
    async fn come_to_rest(&mut self) {
        self.names.until_heard().await;
        self.words.until_heard().await;
        self.channel.request_connection();
        self.lose_cut_connections().await;
        self.agree().await;
        self.turn_the_tide().await;
        self.renewed.clear();
        // What is not named any more is let go of, once its calls have ended.
        for (number, server) in self.stage.servers.iter().enumerate() {
            if !self.stage.world.is_named(number) {
                server.until_open_connections(0).await;
            }
        }
    }

    /// A status that agrees with the world may do so by chance, with news of a cut on
    /// its way. Each backend there is connects again, by all its connections.
    async fn lose_cut_connections(&mut self) {
        let world = &self.stage.world;
        for (server, before) in self.cut.drain(..) {
            let named = world.named.iter().filter(|(_, at)| *at == server).count();
            if world.config.is_some() {
                let all = before + named * self.stage.connections;
                self.stage.servers[server].until_connections(all).await;
            }
        }
    }

    /// The same for health: every health that counts is turned to its opposite and
    /// back. What a `Watch` says comes in order, so nothing older is left then.
    async fn turn_the_tide(&mut self) {
        let Some(service) = self.stage.world.checked() else {
            return;
        };
        let healths: Vec<_> = self.stage.world.servers.iter().map(|s| s.health).collect();
        let opposites = healths.iter().map(|health| match health[service] {
            Health::Serving => Health::NotServing,
            Health::NotServing | Health::Unheard => Health::Serving,
        });
        self.set_all(service, opposites.collect()).await;
        self.set_all(
            service,
            healths.iter().map(|health| health[service]).collect(),
        )
        .await;
    }

    async fn set_all(&mut self, service: usize, healths: Vec<Health>) {
        let all: Vec<_> = (0..healths.len()).collect();
        self.begin_news(&all);
        for (server, health) in healths.into_iter().enumerate() {
            set_health(&self.stage.servers[server], service, health).await;
            self.stage.world.servers[server].health[service] = health;
        }
        self.end_news(&all);
        self.agree().await;
        // What was the only news has been noticed now.
        self.tell_truths(|_, truth| {
            if truth.news == 1 {
                truth.news = 0;
            }
        });
    }

    /// Waits until the channel's status says what is true.
    async fn agree(&self) {
        let mut watch = self.channel.watch_status();
        let agreed = watch.wait_for(|status| self.says_what_is_true(status));
        if timeout(PATIENCE, agreed).await.is_err() {
            let status = self.channel.status();
            let mut text = format!("{} {}", status.generation(), status.state());
            for backend in status.backends() {
                // Writing to a string cannot fail.
                let _ = write!(text, "\n  {backend}");
            }
            panic!(
                "the channel does not notice what is true: {:?}\nit says {text}",
                self.stage.world
            );
        }
    }

    fn says_what_is_true(&self, status: &ChannelStatus) -> bool {
        let world = &self.stage.world;
        let expected = match world.in_rotation().is_empty() {
            true => TransientFailure,
            false => Ready,
        };
        let mut pairs = status.backends().iter().zip(&world.named);
        status.state() == expected
            && status.backends().len() == world.named.len()
            && pairs.all(|(backend, (key, server))| {
                let address = self.stage.servers[*server].addr().to_string();
                let renewed = self.renewed.iter();
                backend.label() == KEYS[*key]
                    && backend.address() == address
                    && renewed.clone().all(|(_, old)| *old != backend.id())
                    // Without a config nothing is started.
                    && (world.config.is_none() || self.is_as_it_is(backend, *server))
            })
    }

    fn is_as_it_is(&self, backend: &BackendStatus, server: usize) -> bool {
        let world = &self.stage.world;
        let cause = backend.last_error().map(|(cause, _)| cause.kind());
        let accepts = world.servers[server].accepts;
        // One less may be one that has broken, and is yet to break under a call.
        if accepts && backend.connections() != self.stage.connections {
            return false;
        }
        match backend.state() {
            Ready => {
                let health = match world.checked() {
                    Some(_) => HealthStatus::Serving,
                    None => HealthStatus::NotChecked,
                };
                world.is_ready(server) && backend.health() == health
            }
            TransientFailure if accepts => !world.is_ready(server),
            // Before that it has noticed that its connection is gone.
            TransientFailure => cause == Some(CauseKind::Connect),
            _ => false,
        }
    }

    /// A few calls while it is known who has to answer them.
    async fn enjoy_rest(&mut self) {
        let rotation = self.stage.world.in_rotation();
        let calls = rotation.len() + 1;
        self.stage.journal.note(format!("rest, with {rotation:?}"));
        self.tell_truths(|_, truth| truth.news = 0);
        self.rest_with(rotation);
        for _ in 0..calls {
            let deadline = Duration::from_secs(2);
            self.callers().say_hello(Kind::FailFast, deadline, 0).await;
        }
        self.next_moment(|moment| moment.rest = None);
    }

    /// Everything has been noticed, also the config that is in force.
    fn rest_with(&self, rotation: Vec<usize>) {
        let Stage {
            world, attempts, ..
        } = &*self.stage;
        let policies = world.config.unwrap_or_default().policies;
        let max_attempts = policies.max_attempts(*attempts);
        self.next_moment(|moment| {
            moment.rest = Some(Arc::new(rotation));
            moment.max_attempts = max_attempts;
        });
    }

    fn begin_news(&self, concerned: &[usize]) {
        self.tell_truths(|server, truth| {
            if concerned.contains(&server) {
                truth.number += 1;
                truth.news += 1;
                // Nothing is certain for now.
                truth.is_in = true;
            }
        });
    }

    fn end_news(&self, concerned: &[usize]) {
        let rotation = self.stage.world.in_rotation();
        self.tell_truths(|server, truth| {
            if concerned.contains(&server) {
                truth.number += 1;
                truth.is_in = rotation.contains(&server);
            }
        });
    }

    fn tell_truths(&self, mut tell: impl FnMut(usize, &mut Truth)) {
        self.next_moment(|moment| {
            let truths = Arc::make_mut(&mut moment.truths);
            let truths = truths.iter_mut().enumerate();
            truths.for_each(|(server, truth)| tell(server, truth));
        });
    }

    fn next_moment(&self, change: impl FnOnce(&mut Moment)) {
        self.moment.send_modify(|moment| {
            moment.number += 1;
            change(moment);
        });
    }

    /// The callers stop, while the world stays at rest, and the channel is all that is
    /// left.
    pub(super) async fn end(self) -> (Channel, Vec<Call>) {
        let rotation = self.stage.world.in_rotation();
        self.rest_with(rotation);
        (self.channel, self.crowd.stop().await)
    }
}

async fn set_health(server: &Backend, service: usize, health: Health) {
    match health {
        Health::Serving => server.set_status(SERVICES[service], SERVING).await,
        Health::NotServing => server.set_status(SERVICES[service], NOT_SERVING).await,
        Health::Unheard => server.clear_status(SERVICES[service]).await,
    }
}

fn update(word: Word) -> Update {
    match word {
        Word::Config(config) => json(config).parse().map(Some),
        Word::Nothing => Ok(None),
        Word::Invalid => r#"{"loadBalancingConfig": 7}"#.parse().map(Some),
    }
}

fn json(config: Config) -> String {
    let mut fields = vec![config.policies.balancing()];
    if let Some(service) = config.service {
        let name = SERVICES[service];
        fields.push(format!(
            r#""healthCheckConfig": {{"serviceName": "{name}"}}"#
        ));
    }
    let mut rules = vec![r#""name": [{"service": "demo.v1.Greeter"}]"#.to_owned()];
    let wait = config.wait_for_ready;
    rules.extend(wait.map(|wait| format!(r#""waitForReady": {wait}"#)));
    let timeout = config.timeout_ms.map(|ms| f64::from(ms) / 1_000.0);
    rules.extend(timeout.map(|s| format!(r#""timeout": "{s}s""#)));
    rules.extend(config.policies.rule());
    fields.extend(config.policies.throttling());
    fields.push(format!(r#""methodConfig": [{{{}}}]"#, rules.join(", ")));
    format!("{{{}}}", fields.join(", "))
}
