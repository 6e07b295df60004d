"""Train a small search agent with GRPO, and let phasewatch tell what is happening.

A real reinforcement learning run in NumPy, of about ten seconds. The agent is asked for a fact ("the capital of X"), or for
one at two removes ("the mayor of the capital of X"). In each of up to four turns it either queries a search engine with one
of eight templates, or answers. What it must find out, from nothing but rewards: which template fits which relation, that
the second search goes on from what the first one found, and that the answer is what the evidence shows. Validation asks
about entities that training never mentions.

Usage: python train_grpo.py [KEY=VALUE ...]

    python train_grpo.py                                                   # all nine phases
    python train_grpo.py trainer.test_freq=10 trainer.seed=1
    python train_grpo.py trainer.val_only=true trainer.resume_from_path=checkpoints/global_step_100.npz
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import sys
import time
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

# The matrices are small: more threads would only wait for each other, the more so beside other work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import phasewatch
from phasewatch import phase

if TYPE_CHECKING:
    import numpy.typing as npt

    Rng = np.random.Generator
    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Weights = dict[str, Floats]
    State = dict[str, npt.NDArray[np.generic]]

T = TypeVar("T", bool, int, float, str)


class ConfigError(ValueError):
    """An override that the trainer cannot follow; its text is one line for the person who wrote it."""


def option(key: str, default: T, help: str, *, least: float | None = None) -> T:
    """Return a field of `Config`, together with the name by which the command line knows it."""
    return dataclasses.field(default=default, metadata={"key": key, "help": help, "least": least})


@dataclass(frozen=True)
class Config:
    """What can be set on the command line, in the manner of verl."""

    total_training_steps: int = option("trainer.total_training_steps", 100, "the last step", least=0)
    total_epochs: int = option("trainer.total_epochs", 3, "how often the training questions are gone through", least=1)
    val_before_train: bool = option("trainer.val_before_train", True, "validate before the first step")
    val_only: bool = option("trainer.val_only", False, "end after that validation")
    val_after_train: bool = option("trainer.val_after_train", True, "validate after the last step")
    test_freq: int = option("trainer.test_freq", 50, "validate every so many steps; 0 or less: never")
    save_freq: int = option("trainer.save_freq", 100, "save every so many steps; 0 or less: never")
    seed: int = option("trainer.seed", 0, "of everything that is random", least=0)
    local_dir: str = option("trainer.default_local_dir", "checkpoints", "where to save")
    resume_from_path: str = option("trainer.resume_from_path", "", "a saved file to go on from; empty: begin anew")
    train_questions: int = option("data.train_questions", 10880, "questions in one epoch", least=1)
    train_batch_size: int = option("data.train_batch_size", 320, "questions in one step", least=1)
    val_questions: int = option("data.val_questions", 7405, "held-out questions", least=1)
    val_batch_size: int = option("data.val_batch_size", 265, "held-out questions in one batch", least=1)
    n: int = option("actor_rollout_ref.rollout.n", 8, "answers to each question: the group", least=2)
    max_turns: int = option("actor_rollout_ref.rollout.max_turns", 4, "searches and answer together", least=1)
    lr: float = option("actor_rollout_ref.actor.optim.lr", 0.003, "learning rate of Adam", least=0)
    ppo_epochs: int = option("actor_rollout_ref.actor.ppo_epochs", 2, "passes over the trajectories of a step", least=1)
    mini_batches: int = option("actor_rollout_ref.actor.mini_batches", 8, "updates in one such pass", least=1)
    clip_ratio: float = option("actor_rollout_ref.actor.clip_ratio", 0.3, "how far a step may move a probability", least=0)
    kl_loss_coef: float = option("actor_rollout_ref.actor.kl_loss_coef", 0.001, "pull to the reference policy", least=0)
    evidence_reward: float = option("reward.evidence", 0.3, "share of training reward for the right evidence", least=0)

    def as_mapping(self) -> dict[str, object]:
        """Return every option under its name on the command line."""
        return {field.metadata["key"]: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def steps_per_epoch(self) -> int:
        """Batches of training questions; the last one may be smaller."""
        return math.ceil(self.train_questions / self.train_batch_size)

    @classmethod
    def from_overrides(cls, overrides: list[str]) -> Config:
        """Return the defaults, changed by ``key=value`` arguments; the last of two for the same key holds."""
        fields = {field.metadata["key"]: field for field in dataclasses.fields(cls)}
        values: dict[str, object] = {}
        for override in overrides:
            key, equals, text = override.partition("=")
            if key not in fields:
                near = difflib.get_close_matches(key, fields, n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise ConfigError(f"unknown override {override!r}{hint}; known keys: {', '.join(fields)}")
            if not equals:
                raise ConfigError(f"override {key!r} has no value; write {key}=VALUE")
            field = fields[key]
            values[field.name] = _read(key, text, type(field.default), field.metadata["least"])
        config = cls(**values)  # type: ignore[arg-type]  # each was read as the type of its default
        in_all = config.total_epochs * config.steps_per_epoch
        if config.total_training_steps > in_all:
            if "total_epochs" not in values:  # nobody asked for that few
                return dataclasses.replace(
                    config, total_epochs=math.ceil(config.total_training_steps / config.steps_per_epoch)
                )
            raise ConfigError(
                f"trainer.total_training_steps={config.total_training_steps} is more than the {in_all} steps of "
                f"trainer.total_epochs={config.total_epochs}; raise that too"
            )
        return config


def _read(key: str, text: str, kind: type, least: float | None) -> object:
    if kind is str:
        return text
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"{key}={text!r} must be true or false")
        return text.lower() == "true"
    try:
        value = int(text) if kind is int else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{key}={text!r} must be a {'whole ' if kind is int else ''}number")
    if least is not None and value < least:
        raise ConfigError(f"{key}={text!r} must be at least {least}")
    return value


RELATIONS, TEMPLATES, VALUES, ENTITIES, NAME_SIZE = 6, 8, 16, 4016, 16
ACTIONS = TEMPLATES + VALUES  # search with a template, or answer with a value
NOTHING = VALUES  # the evidence before anything was found
NO_RELATION = RELATIONS  # the second relation of a question that has one


@dataclass(frozen=True)
class Questions:
    """Questions, as columns: "the ``second`` of the ``first`` of ``entity``" (or without a second), and the answers."""

    entity: Ints
    first: Ints
    second: Ints
    answer: Ints

    def __len__(self) -> int:
        return len(self.entity)

    def __getitem__(self, rows: Ints | slice) -> Questions:
        return Questions(self.entity[rows], self.first[rows], self.second[rows], self.answer[rows])


class World:
    """A table of facts, and the search engine over it.

    The values of facts are entities too, the first `VALUES` of them, so that a search can go on from what another found.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        self.facts: Ints = rng.integers(VALUES, size=(RELATIONS, ENTITIES))
        # Which relation a template asks for is hidden from the policy. Some templates fit none, and find nothing.
        self.relation_of = np.full(TEMPLATES, NO_RELATION)
        self.relation_of[rng.choice(TEMPLATES, RELATIONS, replace=False)] = np.arange(RELATIONS)
        # Entities have names that the policy can see. So it could learn training facts by heart: held-out ones tell.
        self.names: Floats = rng.normal(scale=0.5, size=(ENTITIES, NAME_SIZE))

    def search(self, template: Ints, subject: Ints) -> Ints:
        """Return what the engine finds about each subject: a value, or `NOTHING`."""
        relation = self.relation_of[template]
        return np.where(relation == NO_RELATION, NOTHING, self.facts[relation % RELATIONS, subject])

    def ask(self, count: int, rng: Rng, *, held_out: bool) -> Questions:
        """Return questions about one half of the entities, a third of them with two hops."""
        entity = VALUES + 2 * rng.integers((ENTITIES - VALUES) // 2, size=count) + held_out
        first = rng.integers(RELATIONS, size=count)
        second = np.where(rng.random(count) < 1 / 3, rng.integers(RELATIONS, size=count), NO_RELATION)
        found = self.facts[first, entity]
        answer = np.where(second == NO_RELATION, found, self.facts[second % RELATIONS, found])
        return Questions(entity, first, second, answer)

    def features(self, questions: Questions, evidence: Ints, turn: int, max_turns: int) -> Floats:
        """Return what the policy sees: the question, the last evidence, and the turn."""
        asked = np.eye(RELATIONS)[questions.first], np.eye(RELATIONS + 1)[questions.second], self.names[questions.entity]
        found = np.eye(VALUES + 1)[evidence], np.eye(max_turns)[np.full(len(evidence), turn)]
        return np.concatenate([*asked, *found], axis=1)


class Policy:
    """A network with one hidden layer, which gives each action a probability."""

    def __init__(self, inputs: int, hidden: int, rng: Rng) -> None:
        self.weights: Weights = {
            "w1": rng.normal(scale=inputs**-0.5, size=(inputs, hidden)),
            "b1": np.zeros(hidden),
            "w2": rng.normal(scale=0.1 * hidden**-0.5, size=(hidden, ACTIONS)),  # small: the first policy is near chance
            "b2": np.zeros(ACTIONS),
        }

    def forward(self, features: Floats) -> tuple[Floats, Floats]:
        """Return the log probability of each action, and the hidden layer, which `backward` wants."""
        hidden = np.tanh(features @ self.weights["w1"] + self.weights["b1"])
        logits = hidden @ self.weights["w2"] + self.weights["b2"]
        logits -= logits.max(axis=1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), hidden

    def backward(self, features: Floats, hidden: Floats, by_logits: Floats) -> Weights:
        """Return the gradient by the weights, given that by the logits."""
        by_hidden = by_logits @ self.weights["w2"].T * (1 - hidden**2)
        first = {"w1": features.T @ by_hidden, "b1": by_hidden.sum(axis=0)}
        return {**first, "w2": hidden.T @ by_logits, "b2": by_logits.sum(axis=0)}


class Adam:
    """The optimizer, in place on the weights."""

    def __init__(self, weights: Weights, lr: float) -> None:
        self.weights, self.lr, self.updates = weights, lr, 0
        self.mean = {name: np.zeros_like(value) for name, value in weights.items()}
        self.square = {name: np.zeros_like(value) for name, value in weights.items()}

    def update(self, gradient: Weights) -> None:
        """Take one step against the gradient."""
        self.updates += 1
        for name, g in gradient.items():
            self.mean[name] += 0.1 * (g - self.mean[name])
            self.square[name] += 0.001 * (g * g - self.square[name])
            mean = self.mean[name] / (1 - 0.9**self.updates)
            square = self.square[name] / (1 - 0.999**self.updates)
            self.weights[name] -= self.lr * mean / (np.sqrt(square) + 1e-8)


@dataclass(frozen=True)
class Rollout:
    """What happened to a batch of questions: one row an action, and one entry of `answer` and `evidence` a trajectory."""

    features: Floats
    action: Ints
    log_prob: Floats
    trajectory: Ints  # to which an action belongs
    answer: Ints  # -1: none within the turns
    evidence: Ints  # the last
    active: list[int]  # trajectories still going on at each turn


def roll_out(policy: Policy, world: World, questions: Questions, max_turns: int, rng: Rng | None = None) -> Rollout:
    """Let the policy work on all questions at once; without a generator, it takes the likeliest action each time."""
    subject, evidence = questions.entity.copy(), np.full(len(questions), NOTHING)
    answer, going = np.full(len(questions), -1), np.arange(len(questions))
    active: list[int] = []
    turns: list[tuple[Floats, Ints, Floats, Ints]] = []
    for turn in range(max_turns):
        active.append(len(going))
        features = world.features(questions[going], evidence[going], turn, max_turns)
        log_probs, _ = policy.forward(features)
        # The largest sum with Gumbel noise is a sample from the softmax.
        action = np.argmax(log_probs if rng is None else log_probs + rng.gumbel(size=log_probs.shape), axis=1)
        turns.append((features, action, log_probs[np.arange(len(going)), action], going))
        answers = action >= TEMPLATES
        answer[going[answers]] = action[answers] - TEMPLATES
        going, template = going[~answers], action[~answers]
        found = world.search(template, subject[going])
        hit = found != NOTHING
        evidence[going[hit]] = subject[going[hit]] = found[hit]  # the next search goes on from here
    seen, taken, log_prob, trajectory = (np.concatenate(column) for column in zip(*turns, strict=True))
    return Rollout(seen, taken, log_prob, trajectory, answer, evidence, active)


class Trainer:
    """Holds all that a run changes: the policy, the optimizer, the random generator, and the number of steps done."""

    def __init__(self, config: Config) -> None:
        self.config, self.global_step = config, 0
        self.world = World(config.seed)
        rng = np.random.default_rng([config.seed, 2])
        self.train_set = self.world.ask(config.train_questions, rng, held_out=False)
        self.val_set = self.world.ask(config.val_questions, rng, held_out=True)
        inputs = RELATIONS + RELATIONS + 1 + VALUES + 1 + config.max_turns + NAME_SIZE
        # Two policies from one seed are equal: one learns, the other remains as it is.
        self.policy, self.reference = (Policy(inputs, 256, np.random.default_rng([config.seed, 3])) for _ in range(2))
        self.optimizer = Adam(self.policy.weights, config.lr)
        self.rng = np.random.default_rng([config.seed, 4])

    def batch(self, step: int) -> Questions:
        """Return the training questions of a step; the order within an epoch depends on nothing but seed and epoch."""
        epoch, position = divmod(step - 1, self.config.steps_per_epoch)
        order = np.random.default_rng([self.config.seed, 5, epoch]).permutation(len(self.train_set))
        size = self.config.train_batch_size
        return self.train_set[order[position * size : (position + 1) * size]]

    def train_step(self) -> dict[str, float]:
        """Learn from one batch; return the metrics of the step."""
        config = self.config
        clock = [time.perf_counter()]
        batch = self.batch(self.global_step + 1)
        asked = batch[np.repeat(np.arange(len(batch)), config.n)]  # the n answers to a question stand side by side
        rollout = roll_out(self.policy, self.world, asked, config.max_turns, self.rng)
        print("ACTIVE_TRAJ_NUM:", rollout.active)
        right = rollout.answer == asked.answer
        shown = rollout.evidence == asked.answer  # so that a lucky guess earns less than an answer that was looked up
        reward = (1 - config.evidence_reward) * right + config.evidence_reward * shown
        groups = reward.reshape(-1, config.n)
        advantage = (groups - groups.mean(axis=1, keepdims=True)) / (groups.std(axis=1, keepdims=True) + 1e-6)
        clock.append(time.perf_counter())
        reference = self.reference.forward(rollout.features)[0][np.arange(len(rollout.action)), rollout.action]
        clock.append(time.perf_counter())
        loss, kl = self.update_actor(rollout, advantage.ravel()[rollout.trajectory], reference)
        clock.append(time.perf_counter())
        self.global_step += 1
        gen, ref, update = np.diff(clock)
        return {
            "timing_s/gen": gen,
            "timing_s/ref": ref,
            "timing_s/update_actor": update,
            "actor/loss": loss,
            "actor/kl": kl,
            "reward/mean": float(reward.mean()),
            "reward/right": float(right.mean()),
            "rollout/finish_ratio": float((rollout.answer >= 0).mean()),
        }

    def update_actor(self, rollout: Rollout, advantage: Floats, reference: Floats) -> tuple[float, float]:
        """Move the policy along the advantages, not too far at once; return the means of loss and KL divergence."""
        config = self.config
        seen: list[tuple[float, float]] = []
        for _ in range(config.ppo_epochs):
            shuffled = self.rng.permutation(len(advantage))
            for rows in np.array_split(shuffled, min(config.mini_batches, len(shuffled))):
                features, action, adv = rollout.features[rows], rollout.action[rows], advantage[rows]
                log_probs, hidden = self.policy.forward(features)
                log_prob = log_probs[np.arange(len(rows)), action]
                ratio = np.exp(log_prob - rollout.log_prob[rows])
                plain, clipped = ratio * adv, np.clip(ratio, 1 - config.clip_ratio, 1 + config.clip_ratio) * adv
                # The k3 estimator of the KL divergence: never negative, and right on average.
                towards = np.exp(reference[rows] - log_prob)
                kl = towards - (reference[rows] - log_prob) - 1
                seen.append((float(np.mean(config.kl_loss_coef * kl - np.minimum(plain, clipped))), float(kl.mean())))
                by_log_prob = config.kl_loss_coef * (1 - towards) - np.where(plain <= clipped, plain, 0.0)
                prob = np.exp(log_probs)
                by_logits = -prob * by_log_prob[:, None]
                by_logits[np.arange(len(rows)), action] += by_log_prob
                self.optimizer.update(self.policy.backward(features, hidden, by_logits / len(rows)))
        loss, mean_kl = np.mean(seen, axis=0)
        return float(loss), float(mean_kl)

    def validate(self) -> float:
        """Return the share of held-out questions that are answered right."""
        size, count = self.config.val_batch_size, len(self.val_set)
        right = 0
        batches, counters, details = math.ceil(count / size), {"questions": count}, {"Batch size": size}
        with phase("VALIDATION", total=batches, unit="batch", counters=counters, details=details) as validation:
            for start in range(0, count, size):
                batch = self.val_set[start : start + size]
                # The likeliest actions, no random ones: so validating does not change what training does next.
                rewards = roll_out(self.policy, self.world, batch, self.config.max_turns).answer == batch.answer
                right += int(rewards.sum())
                validation.advance(questions=len(batch), reward=rewards.mean())
        return right / count

    def state(self) -> State:
        """Return all that a run needs to go on as if it had never ended."""
        state: State = {f"{part}.{name}": value for part, of in self._parts().items() for name, value in of.items()}
        state["rng"] = np.array(json.dumps(self.rng.bit_generator.state))
        for name, number in (("step", self.global_step), ("updates", self.optimizer.updates), ("seed", self.config.seed)):
            state[name] = np.array(number)
        return state

    @phase("CHECKPOINT SAVING", step=lambda self: self.global_step)
    def save_checkpoint(self) -> None:
        """Write the state to disk, whole or not at all, and make sure that it can be read back."""
        state, name = self.state(), f"global_step_{self.global_step}.npz"
        path = os.path.join(self.config.local_dir, name)
        os.makedirs(self.config.local_dir or ".", exist_ok=True)
        with open(f"{path}.part", "wb") as file:
            np.savez(file, **state)  # type: ignore[arg-type]  # numpy's stub takes the names for its own option
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{path}.part", path)
        saved = load(path)
        wrong = [key for key, value in state.items() if not np.array_equal(saved[key], value)]
        if wrong:
            raise OSError(f"{path} differs from what was saved, in {', '.join(wrong)}")

    def restore(self, state: State) -> None:
        """Take over a saved state, of a run with the same seed and the same size of network."""
        for name, value in self.state().items():
            if name not in state or (name != "rng" and state[name].shape != value.shape):
                raise ConfigError(f"the saved {name!r} does not fit this configuration")
        if int(state["seed"]) != self.config.seed:  # the questions and the reference policy come from the seed
            raise ConfigError(f"the saved run has trainer.seed={state['seed']}, this one {self.config.seed}")
        for part, of in self._parts().items():
            for name in of:
                of[name][...] = state[f"{part}.{name}"]
        self.rng.bit_generator.state = json.loads(str(state["rng"]))
        self.global_step, self.optimizer.updates = int(state["step"]), int(state["updates"])

    def _parts(self) -> dict[str, Weights]:
        return {"weights": self.policy.weights, "adam_mean": self.optimizer.mean, "adam_square": self.optimizer.square}


def load(path: str) -> State:
    """Read a saved state."""
    try:
        with zipfile.ZipFile(path), np.load(path) as file:  # the first refuses what is no archive
            state = {name: file[name] for name in file.files}
        int(state["step"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(f"cannot read {path!r}: {error}") from error
    return state


def train(config: Config) -> Trainer:
    """Do a whole run; every phase of it is announced, timed and recorded by phasewatch."""
    saved = load(config.resume_from_path) if config.resume_from_path else {"step": np.array(0)}
    start = int(saved["step"])
    if start > config.total_training_steps:
        raise ConfigError(f"{config.resume_from_path!r} is at step {start}, after trainer.total_training_steps")
    plan = phasewatch.TrainingPlan.from_config(config.as_mapping(), steps_per_epoch=config.steps_per_epoch, start_step=start)
    with phasewatch.run("grpo", plan=plan):
        with phase("INITIALIZATION", message="Creating Resource Pools and Workers"):
            trainer = Trainer(config)
            if config.resume_from_path:
                trainer.restore(saved)
        if plan.val_before_train:
            with phase("PRE-TRAINING VALIDATION"):
                trainer.validate()
            if plan.val_only:
                return trainer

        with phase("TRAINING", total=plan.total_steps, unit="step", epochs=config.total_epochs, start=start) as training:
            for number in range(start + 1, plan.total_steps + 1):
                with training.step() as step:
                    metrics = trainer.train_step()
                    step.log(metrics)
                    shown = ("reward/mean", "actor/kl", "actor/loss", "rollout/finish_ratio")
                    print(f"[Step {number}]", *(f"{name.partition('/')[2]}={metrics[name]:.3f}" for name in shown))
                if plan.validates_after(number):
                    with phase("PERIODIC VALIDATION", step=number):
                        trainer.validate()
                if plan.saves_after(number):
                    trainer.save_checkpoint()

        if plan.validates_at_end():
            with phase("POST-TRAINING VALIDATION"):
                trainer.validate()  # the weights in memory, whether or not they were saved
    return trainer


def main(argv: list[str]) -> int:
    """Run with command line arguments; return the exit status."""
    if {"-h", "--help"} & set(argv):
        print(f"{__doc__}\nOverrides and their defaults:\n")
        for field in dataclasses.fields(Config):
            print(f"    {field.metadata['key']}={str(field.default).lower()}\n        {field.metadata['help']}")
        return 0
    try:
        train(Config.from_overrides(argv))
    except ConfigError as error:
        print(f"train_grpo.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # phasewatch has said where
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
