use crate::support::*;
use heterodyne_nn::{ParamStore, shim::Autocast, shim::channels_last, FeatureMap};
use tch::Kind;
#[test]
#[ignore]
fn time() {
    let st = taps(&[map(64, 56, 56), map(128, 28, 28), map(256, 14, 14), map(512, 7, 7)], 512, 100);
    let te = taps(&[tokens(1, 384, 14, 14); 4], 384, 100);
    for (name, cfg) in [("kd", ""), ("fitnet", ""), ("uhkd", ""), ("uhkd", "representation=\"complex\""), ("uhkd","fam_mode=\"direct\""), ("lfcc", ""), ("lfcc", "filter=\"avgpool\""), ("hcd", "")] {
        for (kind, cl) in [(Kind::Float, false), (Kind::Float, true), (Kind::BFloat16, true)] {
            let store = ParamStore::new(CPU, 0);
            let m = build(name, &table(cfg), &store, &st, &te, 32).unwrap();
            let mut s = output(&st, 32, kind);
            if cl { for f in &mut s.stages { if let FeatureMap::Map(x) = f { *x = channels_last(x).unwrap(); } } }
            let s = leaves(&s);
            let t = output(&te, 32, kind);
            let labels = hard(&[0; 32]);
            let _a = Autocast::new(CPU, kind == Kind::BFloat16).unwrap();
            let mut best = (f64::MAX, 0.0);
            for _ in 0..4 {
                let a = std::time::Instant::now();
                let l = loss(&*m, &s, &t, &labels, 0.1).unwrap().total().unwrap();
                let f = a.elapsed().as_secs_f64();
                l.backward();
                let all = a.elapsed().as_secs_f64();
                if all < best.0 { best = (all, f); }
            }
            println!("{name} {cfg} {kind:?} cl={cl}: {:.0} ms, forward {:.0}", best.0 * 1e3, best.1 * 1e3);
        }
    }
}
