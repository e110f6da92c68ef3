//! What must hold of every call and of every status, whatever the script.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tonic::Code;
use tonic_health_channel::{
    ConnectivityState::{Ready, Shutdown},
    health::HealthStatus,
    status::{BackendStatus, ChannelStatus, StatusWatch},
};

use super::{
    callers::{Call, End, Kind, is_asked_for, is_timeout},
    habits::{AMPLE, is_panic, lost_its_credentials},
};

/// Within that a call with [`AMPLE`] time has its stream, and one whose body panics its end. A
/// service config may give it less.
const SOON: Duration = AMPLE.checked_div(2).expect("2 is not 0");

/// Longer than a busy machine keeps a thread from running, and shorter than the time of a call.
const A_WHILE: Duration = Duration::from_millis(100);

/// What the servers say.
pub(super) struct Evidence {
    /// Name and address of each.
    pub(super) servers: Vec<(String, String)>,
    /// Where each call arrived, by its id.
    pub(super) arrivals: HashMap<u64, Vec<usize>>,
    /// Calls may have to wait for a stream.
    pub(super) narrow: bool,
    /// How many calls have lost their credentials to a panic.
    pub(super) panicked: usize,
    /// How many attempts a call may have, whatever the config.
    pub(super) max_attempts: u32,
    /// A call may have several attempts at a time.
    pub(super) hedges: bool,
}

/// What is wrong with a status that follows on another.
pub(super) fn of_status(last: &ChannelStatus, now: &ChannelStatus) -> Option<String> {
    // Whoever compares two statuses must be able to tell which is the newer.
    if now.generation() <= last.generation() {
        return Some(format!(
            "generation {} follows {}",
            now.generation(),
            last.generation()
        ));
    }
    // gRFC A17: what says no takes no calls. A backend that is asked anew keeps what
    // it had until the answer, so "pending" is no contradiction.
    let unhealthy = |backend: &&Arc<BackendStatus>| {
        let says_no = matches!(
            backend.health(),
            HealthStatus::NotServing
                | HealthStatus::ServiceUnknown
                | HealthStatus::Unknown
                | HealthStatus::Failed
        );
        backend.state() == Ready && says_no
    };
    if let Some(backend) = now.backends().iter().find(unhealthy) {
        return Some(format!("{backend}"));
    }
    // One READY backend makes the channel READY, and nothing else does.
    let any_ready = now.backends().iter().any(|b| b.state() == Ready);
    if any_ready != (now.state() == Ready) {
        return Some(format!("{} with {:?}", now.state(), now.backends()));
    }
    None
}

impl Evidence {
    /// What is wrong with all calls together: a panic of credentials is the end of one call.
    pub(super) fn miscount(&self, calls: &[Call]) -> Option<String> {
        let failed = calls
            .iter()
            .filter(|call| matches!(&call.end, End::Failed(status) if lost_its_credentials(status)))
            .count();
        let panicked = self.panicked;
        // An attempt that the call no longer waits for may panic, too.
        let agree = failed == panicked || self.hedges && failed < panicked;
        (!agree).then(|| {
            format!("credentials of {panicked} calls panicked, and {failed} failed for it")
        })
    }

    /// What is wrong with one call.
    pub(super) fn complaint(&self, call: &Call) -> Option<String> {
        let arrived = self.arrivals.get(&call.id).map_or(&[][..], Vec::as_slice);
        let found = self
            .wrong_server(call, arrived)
            .or_else(|| self.wrong_count(call, arrived))
            .or_else(|| self.waited_in_vain(call))
            .or_else(|| sent_without_credentials(call, arrived))
            .or_else(|| held_up(call))
            .or_else(|| wrong_end(call))?;
        let Call {
            id, kind, by, end, ..
        } = call;
        let [before, after] = call.status.each_ref().map(|status| {
            let backends = status.backends().iter().map(|b| format!("\n    {b}"));
            let backends = backends.collect::<String>();
            format!("{} in {}{backends}", status.generation(), status.state())
        });
        let rests = call.moment.each_ref().map(|m| (m.number, &m.rest));
        Some(format!(
            "{kind:?} call {id}: {found}; arrived at {arrived:?}, signed by {by:?}, {end:?}; \
             moments {rests:?}\n  before: {before}\n  after: {after}"
        ))
    }

    /// No call arrives at a backend that is out.
    fn wrong_server(&self, call: &Call, arrived: &[usize]) -> Option<String> {
        for &server in arrived {
            let (name, address) = &self.servers[server];
            // At rest everything has been noticed, so only what is true counts.
            if let Some(rest) = rest_of(call)
                && !rest.contains(&server)
            {
                return Some(format!("{name} is out, and the world at rest"));
            }
            // The status showed before the call that the backend is out, and it was
            // out in truth, until the end of the call. Nothing else is on its way that
            // would be older: at most one thing has changed since everything was
            // noticed, and that is what the status shows. (The status alone does not
            // do: a connection is offered to calls a moment before it is published,
            // and one that waits in the queue may get there first.)
            let truth = call.moment.each_ref().map(|moment| moment.truths[server]);
            let is_out = truth[0] == truth[1] && truth[0].news <= 1 && !truth[0].is_in;
            if is_out && !shows_ready(&call.status[0], address) {
                return Some(format!("{name} is out, and the channel knew"));
            }
        }
        // One server signs, is told of, and noted the id.
        let has_answered = |server: &usize| {
            let (name, address) = &self.servers[*server];
            let told = call.told.address.as_ref();
            call.by.as_ref().is_none_or(|by| by == name) && told.is_none_or(|told| told == address)
        };
        let is_one = arrived.is_empty() || arrived.iter().any(has_answered);
        (!is_one).then(|| format!("others took it, told of was {:?}", call.told.address))
    }

    /// No call is processed more often than its attempts say, and they are as many as the policy
    /// and the channel allow (gRFC A6). What is answered was processed.
    fn wrong_count(&self, call: &Call, arrived: &[usize]) -> Option<String> {
        let is_answered = matches!(call.end, End::Answered) || call.by.is_some();
        if arrived.is_empty() && is_answered {
            return Some("answered by nobody".to_owned());
        }
        let allowed = match rest_of(call) {
            Some(_) => call.moment[0].max_attempts,
            None => self.max_attempts,
        };
        let (made, unsent) = match (&call.told.attempts, &call.end) {
            (Some(attempts), _) => {
                let failed = attempts.failed().iter();
                let unsent = failed.filter(|failed| !failed.may_have_been_sent());
                (attempts.made(), unsent.count())
            }
            // The caller went before the channel could tell, or a generated client has dropped
            // what headers told.
            (None, End::GivenUp | End::Hung | End::Failed(_)) => (allowed, 0),
            (None, End::Answered | End::Wrong(_)) => (1, 0),
        };
        if made > allowed {
            return Some(format!("{made} attempts of {allowed}"));
        }
        let processed = arrived.len();
        let is_too_often = processed + unsent > made as usize;
        is_too_often.then(|| format!("processed {processed} times, {made} attempts"))
    }

    /// No call goes on waiting once there is a backend for it: a wake-up was lost if
    /// one runs out of time in a channel that came to rest meanwhile, and has been READY for
    /// a while. A backend may become READY between the look for it and the end of the time. A
    /// call that is left alone takes no stream until it is polled again.
    fn waited_in_vain(&self, call: &Call) -> Option<String> {
        let End::Failed(status) = &call.end else {
            return None;
        };
        let waited = status
            .message()
            .contains("waiting for a backend: no backend with a free stream");
        let rest = call.moment[1].rest.as_ref();
        let is_ready = rest.is_some_and(|rest| !rest.is_empty());
        let backends = call.status[1].backends().iter();
        let ready = backends.filter(|backend| backend.state() == Ready);
        let since = ready.map(|backend| backend.since()).min();
        let in_vain = |since: Instant| call.ended.duration_since(since.max(call.polled)) > A_WHILE;
        let is_ready = is_ready && since.is_some_and(in_vain);
        (waited && is_ready && !self.narrow).then(|| "a wake-up was lost".to_owned())
    }
}

/// No call goes out that has no credentials.
fn sent_without_credentials(call: &Call, arrived: &[usize]) -> Option<String> {
    let has_none = matches!(&call.end, End::Failed(status) if lost_its_credentials(status));
    // Otherwise an earlier attempt had some.
    let is_single = call.told.attempts.is_none();
    (has_none && is_single && !arrived.is_empty())
        .then(|| "sent without its credentials".to_owned())
}

/// No call waits for its deadline because other calls are not polled or read, or because its
/// own body has panicked.
fn held_up(call: &Call) -> Option<String> {
    let End::Failed(status) = &call.end else {
        return None;
    };
    let waited = |what: &str| status.message().contains(what);
    let is_held_up = match call.kind {
        Kind::Beside => waited("waiting for a backend: no backend with a free stream"),
        Kind::PanickingBody => !waited("waiting for a backend"),
        _ => return None,
    };
    let is_late = is_timeout(status) && call.ended - call.began > SOON;
    (is_held_up && is_late).then(|| "held up".to_owned())
}

/// A call ends with an answer, or fails for a reason that the script gives.
fn wrong_end(call: &Call) -> Option<String> {
    let status = match &call.end {
        End::Answered | End::GivenUp => return None,
        End::Hung => return Some("hung".to_owned()),
        End::Wrong(how) => return Some(how.clone()),
        End::Failed(status) if is_timeout(status) => return None,
        End::Failed(status) if call.kind == Kind::PanickingBody && is_panic(status) => return None,
        End::Failed(status) if lost_its_credentials(status) => return None,
        End::Failed(status)
            if matches!(call.kind, Kind::Again | Kind::BrokenBody) && is_asked_for(status) =>
        {
            return None;
        }
        End::Failed(status) => status,
    };
    let text = status.message();
    let rest = rest_of(call);
    let expected = status.code() == Code::Unavailable
        && if text.starts_with("no healthy backend") {
            // A call that waits does not fail for want of a backend, and none does
            // while there is one.
            let waits = matches!(call.kind, Kind::Patient | Kind::Fickle);
            !waits && rest.is_none_or(|rest| rest.is_empty())
        } else {
            // A connection broke under it, and none does at rest.
            text.starts_with("stream to ") && rest.is_none()
        };
    (!expected).then(|| "an unexpected failure".to_owned())
}

/// The servers in rotation, if nothing changed from the call's begin to its end.
fn rest_of(call: &Call) -> Option<&[usize]> {
    let [before, after] = &call.moment;
    let rest = before.rest.as_ref()?;
    (before.number == after.number).then_some(rest.as_slice())
}

fn shows_ready(status: &ChannelStatus, address: &str) -> bool {
    let mut backends = status.backends().iter();
    backends.any(|b| b.address() == address && b.state() == Ready)
}

/// What is wrong with the statuses that a watch shows until SHUTDOWN.
pub(super) async fn of_watch(mut watch: StatusWatch) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut last = watch.status();
    while let Some(now) = watch.changed().await {
        complaints.extend(of_status(&last, &now));
        last = now;
    }
    if last.state() != Shutdown {
        complaints.push(format!("the last status is {}", last.state()));
    }
    complaints
}
