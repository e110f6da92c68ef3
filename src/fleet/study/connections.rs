//! How many connections, and `Watch` streams, each backend has.

use super::{
    super::{
        plan::{Plan, SECOND},
        world::{World, draw},
    },
    table::{Table, sized},
};
use crate::fleet::{net::Net, report::Sorted};

/// Clients, backends, and the size of the subset.
const SIZES: [(usize, usize, u32); 14] = [
    (100, 10, 5),
    (100, 100, 5),
    (100, 100, 20),
    (1_000, 100, 5),
    (1_000, 100, 20),
    (1_000, 1_000, 5),
    (1_000, 1_000, 10),
    (1_000, 1_000, 20),
    (1_000, 1_000, 50),
    (1_000, 1_000, 100),
    (10_000, 1_000, 10),
    (10_000, 1_000, 20),
    (10_000, 1_000, 50),
    (1_000, 10_000, 20),
];

#[test]
fn connections() {
    let columns = "clients,backends,subset,mean,min,p50,p99,max,max_to_mean,unused";
    let mut table = Table::new("connections", columns);
    let clients = sized(1_000, 20);
    let mut world = World::new(&Plan {
        clients,
        backends: clients,
        ..Plan::default()
    });
    world.pass(SECOND * 15);
    row(&mut table, clients, clients, "all", &world.connections());
    drop(world);
    for (clients, backends, size) in SIZES {
        let (clients, backends) = (sized(clients, clients / 100), sized(backends, backends / 5));
        let net = Net::new(
            std::time::Instant::now(),
            &Plan {
                clients,
                backends,
                ..Plan::default()
            },
        );
        let mut rng = fastrand::Rng::with_seed(1);
        let mut uses = vec![0.0; backends];
        for _ in 0..clients {
            draw(&net, size, rng.u64(..))
                .iter()
                .for_each(|of| uses[*of as usize] += 1.0);
        }
        row(
            &mut table,
            clients,
            backends,
            &size.to_string(),
            &Sorted::new(uses),
        );
    }
    println!("{}", table.text());
    table.write();
}

fn row(table: &mut Table, clients: usize, backends: usize, subset: &str, uses: &Sorted) {
    table.row(
        &[&clients.to_string(), &backends.to_string(), subset],
        &[
            uses.mean(),
            uses.min(),
            uses.quantile(0.5),
            uses.quantile(0.99),
            uses.max(),
            uses.max_to_mean(),
            uses.zeros(),
        ],
    );
}
