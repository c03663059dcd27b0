//! Who watches, and what they are told: the rows of control's overview come in once a second, what is different from the
//! last time goes out as a server-sent event (HTML Living Standard, 9.2).

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{
        HeaderName, HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::Response,
};
use holdmusic_control::{Refusal, access::Identity};
use http_body::Frame;
use serde_json::{json, value::RawValue};
use tokio::sync::{mpsc, watch};

use super::{
    protect,
    pulse::{Beat, Pulse},
};
use crate::{
    http::connections::UnderWay,
    metrics::{Metrics, Sending},
};

/// Who may watch at a time, and of one application: an overview of a full house takes the desk 0.6 ms, so with all of them
/// it spends one hundredth of its time on that.
const WATCHERS: usize = 16;
const WATCHERS_OF_APP: usize = 8;

/// When somebody who found no place may try again, in seconds.
const TRY_AGAIN_S: u32 = 10;

/// Events that wait for a client. What is told later has all that changed meanwhile, so one is enough.
const WAITING: usize = 1;

/// How long control may take to say what there is. It takes less than a millisecond; beyond this the event goes without.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// The console's side of the house.
#[derive(Debug)]
pub struct Console {
    pulse: Pulse,
    watching: Arc<Mutex<HashMap<Arc<Identity>, usize>>>,
    closing: watch::Sender<bool>,
}

impl Default for Console {
    fn default() -> Self {
        Self { pulse: Pulse::new(), watching: Arc::default(), closing: watch::Sender::new(false) }
    }
}

impl Console {
    /// Looks at the counters of the senders once a second, for as long as the runtime lives.
    pub async fn keep_looking(self: Arc<Self>, metrics: Arc<Metrics>) {
        self.pulse.beat(metrics).await;
    }

    /// A place for one who watches.
    ///
    /// # Errors
    ///
    /// 503 if there is none.
    pub fn admit(self: &Arc<Self>, who: &Arc<Identity>) -> Result<Watcher, Refusal> {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = watching.get(who).copied().unwrap_or(0);
        let full = |whose: &str, most: usize| {
            let words = format!("{most} consoles of {whose} are open, and there is no place for more.");
            Err(Refusal::unavailable(words, TRY_AGAIN_S))
        };
        if watching.values().sum::<usize>() >= WATCHERS {
            return full("this engine", WATCHERS);
        }
        if theirs >= WATCHERS_OF_APP {
            return full("this application", WATCHERS_OF_APP);
        }
        watching.insert(Arc::clone(who), theirs + 1);
        drop(watching);
        let place = Place { who: Arc::clone(who), watching: Arc::clone(&self.watching) };
        Ok(Watcher { console: Arc::clone(self), _place: place, told: BTreeMap::new(), beat: 0, is_new: true })
    }

    /// Ends all streams at once.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }
}

/// A place; dropping it gives it back.
#[derive(Debug)]
struct Place {
    who: Arc<Identity>,
    watching: Arc<Mutex<HashMap<Arc<Identity>, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = watching.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                watching.remove(&self.who);
            }
        }
    }
}

/// One who watches, and what he has been told.
#[derive(Debug)]
pub struct Watcher {
    console: Arc<Console>,
    _place: Place,
    /// Rows by their names.
    told: BTreeMap<String, String>,
    /// The last beat.
    beat: u64,
    is_new: bool,
}

/// What is asked for him once a second: the rows, nothing where control is too busy, or why he may not watch any more.
pub enum Look {
    /// Rows of the overview.
    Rows(String),
    /// Not this time.
    Busy,
    /// Never again.
    Over(Refusal),
}

impl Watcher {
    /// The answer that goes on for as long as somebody reads it: the first event is made of `rows`, every later one of what
    /// `look` finds; `not_ready` says why the engine is not ready.
    pub fn watch<F>(
        mut self,
        rows: String,
        look: impl Fn() -> F + Send + Sync + 'static,
        not_ready: impl Fn() -> Option<String> + Send + Sync + 'static,
        under_way: Option<UnderWay>,
    ) -> Response
    where
        F: Future<Output = Look> + Send + 'static,
    {
        let (tell, told) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let mut closing = self.console.closing.subscribe();
            let mut pulse = self.console.pulse.watch();
            let watching = async {
                let mut event = self.event(Some(&rows), not_ready());
                loop {
                    // Gone: then his place is free.
                    if tell.send(event).await.is_err() {
                        return;
                    }
                    tokio::select! {
                        () = tell.closed() => return,
                        // Never fails: its sender is the console's.
                        _ = pulse.changed() => {}
                    }
                    event = match look().await {
                        Look::Rows(rows) => self.event(Some(&rows), not_ready()),
                        Look::Busy => self.event(None, not_ready()),
                        Look::Over(refusal) => {
                            let _ = tell.send(over(&refusal)).await;
                            return;
                        }
                    };
                }
            };
            tokio::select! {
                () = watching => {}
                _ = closing.wait_for(|closing| *closing) => {}
            }
        });
        let mut response = Response::new(Body::new(Events { told, _under_way: under_way }));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // nginx gathers answers otherwise.
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        protect(headers);
        response
    }

    /// What has changed since the last time, as an event.
    fn event(&mut self, rows: Option<&str>, not_ready: Option<String>) -> Bytes {
        let beats = self.console.pulse.since(self.beat);
        self.beat = beats.last().map_or(self.beat, Beat::number);
        let mut changes = json!({ "beats": beats, "notReady": not_ready });
        if std::mem::take(&mut self.is_new) {
            changes["first"] = json!({
                "version": env!("CARGO_PKG_VERSION"),
                "latenessMs": Sending::LATENESS_MS,
                "gapsMs": Sending::GAPS_MS,
            });
        }
        let mut set: BTreeMap<&str, &RawValue> = BTreeMap::new();
        let mut gone: Vec<String> = vec![];
        if let Some(rows) = rows {
            let now: BTreeMap<&str, &str> = rows.lines().filter_map(|line| line.split_once(' ')).collect();
            gone = self.told.keys().filter(|name| !now.contains_key(name.as_str())).cloned().collect();
            for (&name, &row) in &now {
                if self.told.get(name).is_none_or(|told| told != row)
                    && let Ok(row) = serde_json::from_str(row)
                {
                    set.insert(name, row);
                }
            }
            let all = now.iter().map(|(name, row)| ((*name).to_owned(), (*row).to_owned()));
            self.told = all.collect();
        }
        let changes = changes.to_string();
        let set = serde_json::to_string(&set).expect("rows are JSON");
        let gone = serde_json::to_string(&gone).expect("names are text");
        format!("event: state\ndata: {{\"set\":{set},\"gone\":{gone},\"engine\":{changes}}}\n\n").into()
    }
}

/// Why nothing more will come.
fn over(refusal: &Refusal) -> Bytes {
    let why = json!({ "status": refusal.status, "message": refusal.message });
    format!("event: over\ndata: {why}\n\n").into()
}

/// Events as the body of an answer.
struct Events {
    told: mpsc::Receiver<Bytes>,
    /// So that its connection is not idle between two of them.
    _under_way: Option<UnderWay>,
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.told.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn who(app: &str) -> Arc<Identity> {
        Arc::new(Identity::new(app, "tenant"))
    }

    #[test]
    fn so_many_may_watch_and_not_all_of_one_application() {
        let console = Arc::new(Console::default());
        let (one, other, third) = (who("one"), who("other"), who("third"));
        let mut inside: Vec<_> = (0..WATCHERS_OF_APP).map(|_| console.admit(&one).unwrap()).collect();
        let refused = console.admit(&one).unwrap_err();
        assert_eq!((refused.status, refused.retry_after_s), (503, Some(TRY_AGAIN_S)));
        inside.extend((0..WATCHERS - WATCHERS_OF_APP).map(|_| console.admit(&other).unwrap()));
        assert_eq!(console.admit(&third).unwrap_err().status, 503);
        inside.pop();
        console.admit(&third).unwrap();
        drop(inside);
        assert!(console.watching.lock().unwrap().is_empty(), "whoever leaves gives his place back");
    }

    #[test]
    fn an_event_has_what_changed_and_nothing_else() {
        let console = Arc::new(Console::default());
        let mut watcher = console.admit(&who("one")).unwrap();
        let mut told = |rows: Option<&str>| -> Value {
            let event = watcher.event(rows, None);
            let text = std::str::from_utf8(&event).unwrap();
            let data = text.strip_prefix("event: state\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
            assert!(!data.contains('\n'));
            serde_json::from_str(data).unwrap()
        };
        let first = told(Some("call/A {\"n\":1}\ncall/B {\"n\":2}\n"));
        assert_eq!(first["set"], json!({ "call/A": { "n": 1 }, "call/B": { "n": 2 } }));
        assert!(first["engine"]["first"]["version"].is_string());
        let second = told(Some("call/B {\"n\":3}\n"));
        assert_eq!((&second["set"], &second["gone"]), (&json!({ "call/B": { "n": 3 } }), &json!(["call/A"])));
        assert!(second["engine"].get("first").is_none());
        let busy = told(None);
        assert_eq!((&busy["set"], &busy["gone"]), (&json!({}), &json!([])));
        let same = told(Some("call/B {\"n\":3}\n"));
        assert_eq!(same["set"], json!({}));
    }
}
