//! One life of a backend, from its start to its end.

use std::sync::Arc;

use tokio::{select, sync::watch, task::JoinSet};

use crate::{
    connections::{Connections, End},
    front::{Front, HealthKind},
    port::{Listener, Port},
    serve::{Limits, serve},
};

/// The order to a life. It only rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    Serve,
    Stop,
    Kill,
}

#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) front: Arc<Front>,
    pub(crate) connections: Connections,
    pub(crate) limits: Limits,
    pub(crate) orders: watch::Receiver<Order>,
}

impl Life {
    /// Serves until it is told to end, and returns the port when the last connection has ended.
    pub(crate) async fn run(self, mut listener: Listener) -> Port {
        let (mut stop, mut kill) = (self.orders.clone(), self.orders.clone());
        let mut tasks = JoinSet::new();
        select! {
            biased;
            _ = kill.wait_for(|order| *order == Order::Kill) => {}
            () = self.drained(&mut stop) => {}
            () = self.accept(&mut listener, &mut tasks) => {}
        }
        // First the port is closed, so that no client comes back meanwhile.
        let port = listener.close().await;
        self.connections.end_all(End::Graceful);
        select! {
            biased;
            _ = kill.wait_for(|order| *order == Order::Kill) => {
                self.connections.end_all(End::Reset);
            }
            () = ended(&mut tasks) => {}
        }
        ended(&mut tasks).await;
        port
    }

    /// Until it is to stop, and watchers have been told.
    async fn drained(&self, orders: &mut watch::Receiver<Order>) {
        // An error means that the backend has been dropped, which aborts this.
        let _ = orders.wait_for(|order| *order >= Order::Stop).await;
        if let HealthKind::Kit(health) = &self.front.health {
            health.drain().await;
        }
    }

    async fn accept(&self, listener: &mut Listener, tasks: &mut JoinSet<()>) {
        loop {
            let (socket, order) = listener.accept().await;
            let (front, limits, end) = (Arc::clone(&self.front), self.limits, order.subscribe());
            let admitted = self.connections.admit(order);
            tasks.spawn(async move {
                serve(socket, front, limits, end).await;
                drop(admitted);
            });
            while tasks.try_join_next().is_some() {}
        }
    }
}

async fn ended(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}
