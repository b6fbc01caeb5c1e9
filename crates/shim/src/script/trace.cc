#include "script/trace.h"

#include <algorithm>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>

#include <ATen/ops/equal.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/normalize_ops.h>

#include "heterodyne-shim/src/script/ffi.rs.h"
#include "tensor.h"

namespace heterodyne::script {

namespace jit = torch::jit;

namespace {

// The submodule that holds the program's tensors that do not belong to the network.
constexpr const char* CONSTANTS = "constants";

// The parts of a name between its dots.
std::vector<std::string> split(const std::string& name) {
  std::vector<std::string> parts;
  std::istringstream stream(name);
  for (std::string part; std::getline(stream, part, '.');) parts.push_back(part);
  return parts;
}

jit::Module new_module(const std::shared_ptr<jit::CompilationUnit>& unit, const std::string& name) {
  jit::Module module(c10::QualifiedName("__torch__.heterodyne." + name), unit, true);
  // PyTorch's own modules have this attribute; their train() and eval() look for it.
  module.register_attribute("training", c10::BoolType::get(), false);
  return module;
}

// The tensor in a constant of the program, if it has one worth storing.
std::optional<at::Tensor> held_tensor(const jit::Node* node) {
  if (node->kind() != c10::prim::Constant) return std::nullopt;
  auto value = jit::toIValue(node->output());
  if (!value || !value->isTensor() || value->toTensor().dim() == 0) return std::nullopt;
  return value->toTensor();
}

// The tree of modules by prefix; "" is the network.
struct Tree {
  std::map<std::string, jit::Module> modules;

  jit::Module& at(const std::string& prefix) {
    auto found = modules.find(prefix);
    if (found != modules.end()) return found->second;
    const auto dot = prefix.rfind('.');
    const std::string parent = dot == std::string::npos ? "" : prefix.substr(0, dot);
    const std::string name = dot == std::string::npos ? prefix : prefix.substr(dot + 1);
    jit::Module& above = at(parent);
    jit::Module made = new_module(above._ivalue()->compilation_unit(), "Part");
    above.register_module(name, made);
    return modules.emplace(prefix, made).first->second;
  }
};

// The value of an attribute with a dotted name.
jit::Value* get_attribute(jit::Graph& graph, jit::Value* self, const std::string& name) {
  jit::Value* value = self;
  for (const std::string& part : split(name)) value = graph.insertNode(graph.createGetAttr(value, part))->output();
  return value;
}

// The dotted name of a value that is an attribute of the network; empty for others.
std::string attribute_name(const jit::Value* value) {
  std::string name;
  for (const jit::Node* node = value->node(); node->kind() == c10::prim::GetAttr; node = node->input()->node()) {
    const std::string& part = node->s(c10::attr::name);
    name = name.empty() ? part : part + "." + name;
  }
  return name;
}

}  // namespace

Trace::Trace(rust::Slice<const rust::String> names, rust::Slice<const size_t> tensors, rust::Slice<const bool> trained,
             size_t x) {
  if (jit::tracer::isTracing()) throw std::invalid_argument("a pass is already being recorded");
  module = new_module(std::make_shared<jit::CompilationUnit>(), "Network");
  Tree tree;
  tree.modules.emplace("", module);
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string name(names[i]);
    const auto dot = name.rfind('.');
    jit::Module& owner = tree.at(dot == std::string::npos ? "" : name.substr(0, dot));
    const std::string leaf = dot == std::string::npos ? name : name.substr(dot + 1);
    if (trained[i]) {
      owner.register_parameter(leaf, tensor(tensors[i]), false);
    } else {
      owner.register_buffer(leaf, tensor(tensors[i]));
    }
  }
  state = std::make_shared<jit::tracer::TracingState>();
  state->force_outplace = true;
  // The warnings concern in-place operators on tensors that are read nowhere else.
  state->warn = false;
  graph = state->graph;
  jit::Value* self = graph->insertInput(0, "self")->setType(module._ivalue()->type());
  jit::Value* images = graph->addInput("x");
  images->inferTypeFrom(tensor(x));
  jit::tracer::setTracingState(state);
  state->setValue(tensor(x), images);
  for (size_t i = 0; i < names.size(); ++i) {
    jit::Value* value = get_attribute(*graph, self, std::string(names[i]));
    value->inferTypeFrom(tensor(tensors[i]));
    state->setValue(tensor(tensors[i]), value);
  }
}

void Trace::finish(size_t y) {
  graph->registerOutput(state->getOutput(tensor(y), 0));
  jit::tracer::setTracingState(nullptr);
  state.reset();
  jit::NormalizeOps(graph);
  jit::EliminateDeadCode(graph);
  name_constants();
  graph->lint();
  for (jit::Value* input : graph->inputs()) {
    if (input->type()->isSubtypeOf(*c10::TensorType::get())) values.push_back(input);
  }
  for (jit::Node* node : graph->nodes()) {
    for (jit::Value* output : node->outputs()) values.push_back(output);
  }
}

void Trace::name_constants() {
  std::vector<jit::Node*> holders;
  for (jit::Node* node : graph->nodes()) {
    if (held_tensor(node)) holders.push_back(node);
  }
  if (holders.empty()) return;
  jit::Module constants = new_module(module._ivalue()->compilation_unit(), "Constants");
  std::vector<at::Tensor> distinct;
  std::vector<std::string> names;
  for (jit::Node* node : holders) {
    const at::Tensor held = *held_tensor(node);
    const auto same = [&](const at::Tensor& t) {
      return t.scalar_type() == held.scalar_type() && t.sizes() == held.sizes() && at::equal(t, held);
    };
    const size_t index = std::find_if(distinct.begin(), distinct.end(), same) - distinct.begin();
    names.push_back("c" + std::to_string(index));
    if (index < distinct.size()) continue;
    distinct.push_back(held);
    constants.register_buffer(names.back(), held);
  }
  module.register_module(CONSTANTS, constants);
  jit::WithInsertPoint at_the_top(*graph->nodes().begin());
  for (size_t i = 0; i < holders.size(); ++i) {
    jit::Value* value = get_attribute(*graph, graph->inputs()[0], std::string(CONSTANTS) + "." + names[i]);
    value->inferTypeFrom(*held_tensor(holders[i]));
    holders[i]->output()->replaceAllUsesWith(value);
    holders[i]->destroy();
  }
}

Program Trace::program() const {
  std::map<const jit::Value*, size_t> numbers;
  Program program;
  for (jit::Value* value : values) {
    Value described{Sort::Other, 0, 0.0, rust::String(), rust::Vec<int64_t>(), 0};
    const auto constant = jit::toIValue(value);
    if (constant) {
      if (constant->isInt()) {
        described.sort = Sort::Int;
        described.integer = constant->toInt();
      } else if (constant->isDouble()) {
        described.sort = Sort::Real;
        described.real = constant->toDouble();
      } else if (constant->isBool()) {
        described.sort = Sort::Int;
        described.integer = constant->toBool() ? 1 : 0;
      } else if (constant->isNone()) {
        described.sort = Sort::Nothing;
      } else if (constant->isString()) {
        described.sort = Sort::Text;
        described.text = constant->toStringRef();
      } else if (constant->isTensor()) {
        described.sort = Sort::Held;
        described.tensor = give(constant->toTensor());
      }
    } else if (const auto type = value->type()->cast<c10::TensorType>()) {
      described.sort = Sort::Computed;
      const auto sizes = type->sizes().concrete_sizes();
      if (sizes) {
        for (int64_t n : *sizes) described.sizes.push_back(n);
      }
      const std::string name = attribute_name(value);
      if (!name.empty()) {
        described.sort = Sort::Held;
        described.text = name;
        jit::IValue held = module._ivalue();
        for (const std::string& part : split(name)) held = held.toObject()->getAttr(part);
        described.tensor = give(held.toTensor());
      }
    }
    numbers.emplace(value, program.values.size());
    program.values.push_back(std::move(described));
  }
  for (const jit::Node* node : graph->nodes()) {
    if (node->kind() == c10::prim::Constant || node->kind() == c10::prim::GetAttr) continue;
    Step step;
    step.operation = node->kind().toQualString();
    for (const jit::Value* input : node->inputs()) step.inputs.push_back(numbers.at(input));
    for (const jit::Value* output : node->outputs()) step.outputs.push_back(numbers.at(output));
    program.steps.push_back(std::move(step));
  }
  program.output = numbers.at(graph->outputs().at(0));
  return program;
}

void Trace::free_batch(rust::Slice<const size_t> chosen, rust::Slice<const int64_t> factors) {
  jit::WithInsertPoint at_the_top(*graph->nodes().begin());
  jit::Value* images = graph->insert(c10::aten::size, {graph->inputs()[1], 0});
  for (size_t i = 0; i < chosen.size(); ++i) {
    jit::Value* count = factors[i] == 1 ? images : graph->insert(c10::aten::mul, {images, factors[i]});
    values.at(chosen[i])->replaceAllUsesWith(count);
  }
  jit::EliminateDeadCode(graph);
  values.clear();
}

std::unique_ptr<std::string> Trace::save(rust::Str about) {
  for (jit::Node* node : graph->nodes()) {
    for (jit::Value* output : node->outputs()) {
      if (output->type()->cast<c10::TensorType>()) output->setType(c10::TensorType::get());
    }
  }
  graph->inputs()[1]->setType(c10::TensorType::get());
  const c10::QualifiedName name(*module.type()->name(), "forward");
  module.type()->addMethod(module._ivalue()->compilation_unit()->create_function(name, graph));
  // Saves to memory, because saving to a file would end the process on a full disk.
  std::ostringstream out;
  module.save(out, {{"heterodyne.json", std::string(about)}});
  return std::make_unique<std::string>(out.str());
}

std::unique_ptr<Trace> trace_begin(rust::Slice<const rust::String> names, rust::Slice<const size_t> tensors,
                                   rust::Slice<const bool> trained, size_t x) {
  try {
    return std::make_unique<Trace>(names, tensors, trained, x);
  } catch (...) {
    trace_abandon();
    throw;
  }
}

void trace_abandon() { jit::tracer::setTracingState(nullptr); }

}  // namespace heterodyne::script
