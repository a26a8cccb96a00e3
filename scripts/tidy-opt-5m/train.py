"""Train tidy-opt-5m from nothing on a CPU: about 5,000 steps of 4,096 tokens, 100 minutes on 2 cores.

Usage: python train.py OUT_DIR [MINUTES]     (needs torch, transformers, tokenizers; resumes from OUT_DIR/checkpoint.pt)

Curriculum: the 14 tasks of tasks.py, plus an auxiliary "Copy the text" task (30 % at first, 5 % later) that makes the
copying heads appear early. The loss counts answer tokens fully and prompt tokens at 0.1. A sixteenth of the examples carry one
to three solved examples of the same task in front.
"""

import math, os, random, re, sys, time
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import OPTConfig, OPTForCausalLM
from tasks import Gen, examples, prompt

STEPS, LR, WARMUP = 5400, 1.6e-3, 200
TOKENS, ACCUMULATE = 1024, 4  # tokens in a micro-batch (padding included), micro-batches in a step
WEIGHTS = {"match": 2.0, "error": 2.0, "date": 1.5, "address": 1.5, "order": 1.2}
BOS = EOS = 2

CONFIG = OPTConfig(
    vocab_size=2048,
    hidden_size=256,
    ffn_dim=1024,
    num_hidden_layers=6,
    num_attention_heads=4,
    max_position_embeddings=512,
    word_embed_proj_dim=256,
    dropout=0.0,
    attention_dropout=0.0,
    layerdrop=0.0,
    activation_function="relu",
    do_layer_norm_before=True,
    pad_token_id=1,
    bos_token_id=2,
    eos_token_id=2,
)


def train_tokenizer():
    """GPT-2 byte-level BPE in OPT's layout (<s> <pad> </s> <unk> first). Trained on text without digits, so digits never merge."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer, tok.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    corpus = (re.sub(r"\d+", "", f"{prompt(t, i)} {o}") for t, i, o in examples(99, 60000))
    tok.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=2048,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tok


def sequences(tok, seed, n, copy_share):
    """n training sequences as (ids, index of the first answer token)."""
    rng, gen, solved, texts, answers = random.Random(seed), Gen(seed + 7), {}, [], []
    fragments = [
        gen.word,
        lambda: gen.digits(rng.randint(1, 5)),
        lambda: gen.name()[0],
        lambda: gen.name()[1].lower(),
        lambda: gen.phone()[0],
    ]
    for task, text, answer in examples(seed, n, weights=WEIGHTS):
        p = prompt(task, text)
        if rng.random() < copy_share:
            answer = " ".join(rng.choice(fragments)() for _ in range(rng.randint(2, 8)))
            p = f"Task: Copy the text\nInput: {answer}\nOutput:"
        else:
            shots = solved.setdefault(task, [])
            if shots and rng.random() < 1 / 16:
                p = "\n\n".join(
                    [f"{prompt(task, a)} {b}" for a, b in rng.sample(shots, min(len(shots), rng.randint(1, 3)))] + [p]
                )
            shots.append((text, answer))
            del shots[:-20]
        texts.append(p)
        answers.append(" " + answer)
    encode = lambda batch: [e.ids for e in tok.encode_batch(batch, add_special_tokens=False)]
    rows = [([BOS] + a + b + [EOS], len(a) + 1) for a, b in zip(encode(texts), encode(answers))]
    return [r for r in rows if len(r[0]) <= 500]


def micro_batches(tok, seed, copy_share):
    """Endless micro-batches of sequences of similar length, with the seed each came from."""
    while True:
        seed, batches, batch = seed + 1, [], []
        for row in sorted(sequences(tok, seed, 6000, copy_share()), key=lambda r: len(r[0])):
            if batch and (len(batch) + 1) * len(row[0]) > TOKENS:
                batches.append(batch)
                batch = []
            batch.append(row)
        random.Random(seed).shuffle(batches)
        for b in batches:
            yield seed, b


def loss_of(model, batch, total):
    length = max(len(ids) for ids, _ in batch)
    x, w = torch.ones(len(batch), length, dtype=torch.long), torch.zeros(len(batch), length)
    for k, (ids, answer) in enumerate(batch):
        x[k, : len(ids)] = torch.tensor(ids)
        w[k, 1 : len(ids)] = 0.1
        w[k, answer : len(ids)] = 1.0
    with torch.autocast("cpu", torch.bfloat16):
        hidden, used = model.model.decoder(input_ids=x, use_cache=False).last_hidden_state, w[:, 1:] > 0
        logits = hidden[:, :-1][used] @ model.lm_head.weight.t()
    return (F.cross_entropy(logits.float(), x[:, 1:][used], reduction="none") * w[:, 1:][used]).sum() / total


def main(out, minutes):
    os.makedirs(out, exist_ok=True)
    torch.manual_seed(0)
    tok = train_tokenizer()
    tok.save(f"{out}/tokenizer.json")
    tok.model.save(out)
    model = OPTForCausalLM(CONFIG)
    groups = [
        {"params": [p for p in model.parameters() if (p.dim() >= 2) == big], "weight_decay": decay}
        for big, decay in ((True, 0.05), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.98), fused=True)
    step, seed, start, checkpoint = 0, 1000, time.time(), f"{out}/checkpoint.pt"
    if os.path.exists(checkpoint):
        c = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(c["model"])
        optimizer.load_state_dict(c["opt"])
        step, seed = c["step"], c["seed"]
    source = micro_batches(tok, seed, lambda: 0.3 if step < 0.35 * STEPS else 0.05)
    while step < STEPS and time.time() - start < minutes * 60:
        for g in optimizer.param_groups:
            g["lr"] = LR * min(1, (step + 1) / WARMUP) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / STEPS)))
        drawn = [next(source) for _ in range(ACCUMULATE)]
        seed = drawn[-1][0]
        total = sum(0.1 * (a - 1) + len(ids) - a for _, b in drawn for ids, a in b)
        optimizer.zero_grad(set_to_none=True)
        shown = 0.0
        for _, b in drawn:
            loss = loss_of(model, b, total)
            loss.backward()
            shown += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"step {step}  loss {shown:.3f}  {(time.time() - start) / 60:.1f} min", flush=True)
        if step % 100 == 0 or step == STEPS:
            torch.save({"model": model.state_dict(), "opt": optimizer.state_dict(), "step": step, "seed": seed}, checkpoint)
    torch.save({"model": model.state_dict(), "opt": optimizer.state_dict(), "step": step, "seed": seed}, checkpoint)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 1e9)
