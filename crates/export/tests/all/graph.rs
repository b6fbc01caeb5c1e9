use std::collections::BTreeSet;
use heterodyne_export::graph::Graph;
use heterodyne_models::{Model, all};
use tch::Device;

#[test]
fn ops() {
    let mut ops = BTreeSet::new();
    for def in all() {
        let img = Some(if def.input.img > 64 { 64 } else { def.input.img });
        let model = Model::build(def, 10, img, &toml::Table::new(), Device::Cpu, 0).unwrap();
        match Graph::of(&model) {
            Ok(g) => {
                println!("{}: {} steps {} counts", def.name, g.program.steps.len(), g.counts.len());
                ops.extend(g.program.steps.iter().map(|s| s.operation.clone()));
                let dir = tempfile::tempdir().unwrap();
                let file = dir.path().join("m.ts");
                g.save(&file, "{}").unwrap();
                let m = tch::CModule::load(&file).unwrap();
                for b in [1, 2, 5] {
                    let x = tch::Tensor::randn([b, 3, model.img, model.img], (tch::Kind::Float, Device::Cpu));
                    let y = m.forward_ts(&[&x]).unwrap();
                    let z = tch::no_grad(|| model.net.forward(&x, heterodyne_nn::Pass::EVAL).logits);
                    let d = (&y - &z).abs().max().double_value(&[]) / z.abs().max().double_value(&[]);
                    assert!(d < 1e-4, "{} {b} {d}", def.name);
                }
            }
            Err(e) => println!("{}: {e}", def.name),
        }
    }
    println!("{ops:#?}");
}
