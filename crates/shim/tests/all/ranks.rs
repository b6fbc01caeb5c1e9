//! Groups of processes. Two threads play two processes, on Gloo; a group of one is on any device, and on a GPU
//! (`HETERODYNE_TEST_DEVICE=cuda`) that is NCCL.
use std::{
    net::TcpListener,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use heterodyne_shim::{
    Error, load_cuda,
    ranks::{Group, Meeting, Reducer, is_about_peers},
};
use tch::{Device, Kind, Tensor};

use crate::support::leaf;

fn meeting(port: u16, rank: u32, size: u32) -> Meeting {
    let (host, prefix, timeout) = ("127.0.0.1".to_owned(), "test".to_owned(), Duration::from_secs(30));
    Meeting { host, port, serves: rank == 0, prefix, rank, size, timeout }
}

/// Below the ports that the system gives to outgoing connections.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16 % 100 * 10;
    let candidates = std::iter::repeat_with(|| 30_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 1_000);
    candidates.take(1_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// What `f` returns in each of two processes.
fn in_two<T: Send>(f: impl Fn(Arc<Group>) -> T + Sync) -> [T; 2] {
    let port = free_port();
    let meet = |rank| f(Arc::new(Group::meet(&meeting(port, rank, 2), Device::Cpu).unwrap()));
    std::thread::scope(|scope| {
        let second = scope.spawn(|| meet(1));
        [meet(0), second.join().unwrap()]
    })
}

fn values(t: &Tensor) -> Vec<f64> {
    Vec::try_from(t.to_device(Device::Cpu).to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

/// Each process has the loss of all rows, so the sum of the losses has twice its gradient.
#[test]
fn gathered_rows_and_sums_carry_the_gradients_of_all_losses() {
    let all = [[1f32, 2.0], [3.0, 4.0]];
    let found = in_two(|group| {
        let own = leaf(&Tensor::from_slice2(&all[group.rank() as usize..][..1]));
        let rows = group.gather(&own).unwrap();
        (&rows * &rows).sum(Kind::Float).backward();
        let gathered = (values(&rows), values(&own.grad()));

        let own = leaf(&own);
        let sum = group.sum(&own).unwrap();
        (&sum * &sum).sum(Kind::Float).backward();
        (gathered, values(&sum), values(&own.grad()))
    });
    for (rank, ((rows, of_rows), sum, of_sum)) in found.into_iter().enumerate() {
        assert_eq!(rows, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(of_rows, [[4.0, 8.0], [12.0, 16.0]][rank]);
        assert_eq!(sum, [4.0, 6.0]);
        assert_eq!(of_sum, [16.0, 24.0]);
    }
}

/// Also where a process does not use a parameter, as after a method's end.
#[test]
fn the_reducer_averages_gradients() {
    for (half, expected) in [(false, 1.000_05f32), (true, 1.0)] {
        let found = in_two(|group| {
            let [used, partly] = [0, 1].map(|_| leaf(&Tensor::ones([3], (Kind::Float, Device::Cpu))));
            let reducer = Reducer::new(&group, &[used.shallow_clone(), partly.shallow_clone()], half).unwrap();
            let rank = f64::from(group.rank());
            let mut total = (&used * (0.5 + rank + 0.000_05)).sum(Kind::Float);
            if rank == 1.0 {
                total += (&partly * 4.0).sum(Kind::Float);
            }
            reducer.prepare(&total).unwrap();
            total.backward();
            (values(&used.grad()), values(&partly.grad()))
        });
        for (used, partly) in found {
            assert!(used.iter().all(|g| (g - f64::from(expected)).abs() < 2e-7), "{half}: {used:?}");
            assert_eq!(partly, [2.0; 3]);
        }
    }
}

#[test]
fn numbers_and_texts_reach_the_other_process() {
    let found = in_two(|group| {
        let message = group.send(10 + group.rank() as i32).unwrap();
        group.put(&format!("own/{}", group.rank()), "ü").unwrap();
        let other = group.get(&format!("own/{}", 1 - group.rank())).unwrap();
        (message.received().unwrap(), other, group.has("nothing").unwrap())
    });
    found.into_iter().for_each(|found| assert_eq!(found, (vec![10, 11], "ü".to_owned(), false)));
}

/// The process that serves the meeting point has ended; also an operation on tensors then says whose fault it is.
#[test]
fn a_process_that_has_gone_is_told_from_other_faults() {
    let texts = in_two(|group| {
        if group.rank() == 0 {
            group.get("other is ready").unwrap();
            return Vec::new();
        }
        group.put("other is ready", "").unwrap();
        let gone = |f: &dyn Fn() -> Result<(), Error>| {
            (0..200).find_map(|_| {
                std::thread::sleep(Duration::from_millis(20));
                f().err()
            })
        };
        let x = Tensor::ones([1], (Kind::Float, Device::Cpu));
        let store = gone(&|| group.has("anything").map(drop)).expect("the store is gone");
        let sum = gone(&|| group.all_reduce(&x)).expect("the other process is gone");
        vec![store.to_string(), sum.to_string()]
    });
    assert_eq!(texts[1].len(), 2);
    texts[1].iter().for_each(|text| assert!(is_about_peers(text), "{text}"));
    assert!(!is_about_peers("shape '[2, 3]' is invalid for input of size 4"));
}

/// c10d's recorder of operations crashes here in one of some hundred rounds, where it is on.
#[test]
fn threads_with_groups_of_their_own_do_not_meet() {
    assert!(
        ["TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE"].iter().any(|name| std::env::var_os(name).is_some())
    );
    for _ in 0..4 {
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let group = Group::meet(&meeting(free_port(), 0, 1), Device::Cpu).unwrap();
                    let x = Tensor::ones([1], (Kind::Float, Device::Cpu));
                    start.wait();
                    group.all_reduce(&x).unwrap();
                    assert_eq!(values(&x), [1.0]);
                });
            }
        });
    }
}

#[test]
fn a_group_of_one_changes_nothing_on_any_device() {
    let device = match std::env::var("HETERODYNE_TEST_DEVICE").as_deref() {
        Ok("cuda") => load_cuda().map(|_| Device::Cuda(0)).unwrap(),
        _ => Device::Cpu,
    };
    let group = Arc::new(Group::meet(&meeting(free_port(), 0, 1), device).unwrap());
    let x = Tensor::from_slice(&[1f32, -2.0]).reshape([2, 1]).to_device(device);
    let sum = x.copy();
    group.all_reduce(&sum).unwrap();
    group.broadcast(&[sum.shallow_clone()]).unwrap();
    assert_eq!(values(&sum), [1.0, -2.0]);
    for half in [false, true] {
        let x = leaf(&x);
        let reducer = Reducer::new(&group, &[x.shallow_clone()], half).unwrap();
        let total = (group.gather(&x).unwrap() * group.sum(&x).unwrap()).sum(Kind::Float);
        reducer.prepare(&total).unwrap();
        total.backward();
        assert_eq!(values(&x.grad()), [2.0, -4.0]);
    }
}
