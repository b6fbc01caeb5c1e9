use heterodyne_shim::{AdamW, Rate, Sgd, adamw_step, channels_last, grad_clear, grad_norm, grad_scale, lerp, sgd_step};
use tch::{Device, Kind, Tensor};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

/// A matrix, a convolution weight in channels-last memory and a vector, the last without a gradient.
struct Case {
    params: Vec<Tensor>,
    inputs: Vec<Tensor>,
}

impl Case {
    fn new() -> Self {
        let conv = channels_last(&Tensor::randn([4, 3, 3, 3], CPU)).unwrap();
        let params: Vec<Tensor> = [Tensor::randn([5, 7], CPU), conv, Tensor::randn([6], CPU)]
            .into_iter()
            .map(|t| t.set_requires_grad(true))
            .collect();
        let inputs = params.iter().map(|p| Tensor::randn(p.size(), CPU)).collect();
        Self { params, inputs }
    }

    /// Gradients that change with the parameters.
    fn backward(&self) {
        grad_clear(&self.params).unwrap();
        let loss = self
            .params
            .iter()
            .zip(&self.inputs)
            .take(2)
            .map(|(p, x)| (p * x).sin().sum(None::<Kind>))
            .reduce(|a, b| a + b)
            .unwrap();
        loss.backward();
    }

    fn doubles(&self) -> Vec<Tensor> {
        self.params.iter().map(|p| p.detach().to_kind(Kind::Double)).collect()
    }

    fn gradients(&self) -> Vec<Tensor> {
        self.params.iter().take(2).map(|p| p.grad().to_kind(Kind::Double)).collect()
    }

    fn zeros(&self) -> Vec<Tensor> {
        self.params.iter().map(|p| p.detach().zeros_like()).collect()
    }
}

fn assert_close(a: &Tensor, b: &Tensor) {
    let far = (a.to_kind(Kind::Double) - b).abs().max().double_value(&[]);
    assert!(far < 2e-6, "off by {far}");
}

fn no() -> Tensor {
    Tensor::zeros([], CPU)
}

/// A learning rate.
const LR: f64 = 0.1;

#[test]
fn sgd_is_pytorchs() {
    let scalar = Tensor::from(LR);
    for (nesterov, lr) in [(false, Rate::Number(LR)), (true, Rate::Number(LR)), (true, Rate::Scalar(&scalar))] {
        let case = Case::new();
        let h = Sgd { lr, momentum: 0.9, weight_decay: 0.01, nesterov };
        let momenta = case.zeros();
        let mut expected = case.doubles();
        let mut buffers: Vec<Option<Tensor>> = vec![None, None];
        for _ in 0..4 {
            case.backward();
            for (i, g) in case.gradients().into_iter().enumerate() {
                let g = g + &expected[i] * h.weight_decay;
                // PyTorch starts the buffer at the first gradient.
                let buffer = buffers[i].take().map_or_else(|| g.copy(), |b| b * h.momentum + &g);
                let update = if nesterov { &g + &buffer * h.momentum } else { buffer.copy() };
                expected[i] = &expected[i] - update * LR;
                buffers[i] = Some(buffer);
            }
            sgd_step(&case.params, &momenta, &no(), h).unwrap();
        }
        for (p, e) in case.params.iter().zip(&expected) {
            assert_close(&p.detach(), e);
        }
    }
}

#[test]
fn adamw_is_pytorchs() {
    adamw_steps(Rate::Number(LR));
    adamw_steps(Rate::Scalar(&Tensor::from(LR)));
}

fn adamw_steps(lr: Rate) {
    let case = Case::new();
    let h = AdamW { lr, beta1: 0.9, beta2: 0.95, weight_decay: 0.1, eps: 1e-8 };
    let (m, v) = (case.zeros(), case.zeros());
    let steps: Vec<Tensor> = case.params.iter().map(|_| no()).collect();
    let mut expected = case.doubles();
    let (mut em, mut ev) =
        (vec![0.0, 0.0].into_iter().map(Tensor::from).collect::<Vec<_>>(), vec![Tensor::from(0.0), Tensor::from(0.0)]);
    for t in 1..=4 {
        case.backward();
        for (i, g) in case.gradients().into_iter().enumerate() {
            expected[i] = &expected[i] * (1.0 - LR * h.weight_decay);
            em[i] = &em[i] * h.beta1 + &g * (1.0 - h.beta1);
            ev[i] = &ev[i] * h.beta2 + &g * &g * (1.0 - h.beta2);
            let m_hat = &em[i] / (1.0 - h.beta1.powi(t));
            let v_hat = &ev[i] / (1.0 - h.beta2.powi(t));
            expected[i] = &expected[i] - m_hat / (v_hat.sqrt() + h.eps) * LR;
        }
        adamw_step(&case.params, &m, &v, &steps, &no(), h).unwrap();
    }
    for (p, e) in case.params.iter().zip(&expected) {
        assert_close(&p.detach(), e);
    }
}

#[test]
fn a_step_that_found_an_infinity_changes_nothing() {
    let case = Case::new();
    let (m, v) = (case.zeros(), case.zeros());
    let steps: Vec<Tensor> = case.params.iter().map(|_| no()).collect();
    case.backward();
    let _ = case.params[0].grad().fill_(f64::NAN);
    let before = case.doubles();
    let yes = Tensor::ones([], CPU);
    sgd_step(
        &case.params,
        &case.zeros(),
        &yes,
        Sgd { lr: Rate::Number(0.1), momentum: 0.9, weight_decay: 0.01, nesterov: true },
    )
    .unwrap();
    adamw_step(
        &case.params,
        &m,
        &v,
        &steps,
        &yes,
        AdamW { lr: Rate::Number(0.1), beta1: 0.9, beta2: 0.99, weight_decay: 0.1, eps: 1e-8 },
    )
    .unwrap();
    for (p, b) in case.params.iter().zip(&before) {
        assert_eq!(p.detach().to_kind(Kind::Double), *b);
    }
    assert!(m.iter().chain(&v).chain(&steps).all(|t| t.abs().sum(None::<Kind>).double_value(&[]) == 0.0));
}

#[test]
fn the_norm_is_that_of_all_gradients_together() {
    let case = Case::new();
    case.backward();
    let expected: f64 =
        case.gradients().iter().map(|g| (g * g).sum(None::<Kind>).double_value(&[])).sum::<f64>().sqrt();
    let norm = grad_norm(&case.params).unwrap().double_value(&[]);
    assert!((norm - expected).abs() < 1e-5 * expected);
    grad_scale(&case.params, &Tensor::from(0.5f32)).unwrap();
    assert!((grad_norm(&case.params).unwrap().double_value(&[]) - expected / 2.0).abs() < 1e-5 * expected);
    grad_clear(&case.params).unwrap();
    assert!(grad_norm(&case.params).unwrap_err().to_string().contains("no parameter has a gradient"));
}

#[test]
fn lerp_moves_towards_the_source() {
    let targets = vec![Tensor::zeros([3], CPU), Tensor::ones([2, 2], CPU)];
    let sources = vec![Tensor::ones([3], CPU), Tensor::ones([2, 2], CPU) * 3.0];
    lerp(&targets, &sources, 0.25).unwrap();
    assert_eq!(targets[0], Tensor::ones([3], CPU) * 0.25);
    assert_eq!(targets[1], Tensor::ones([2, 2], CPU) * 1.5);
}
