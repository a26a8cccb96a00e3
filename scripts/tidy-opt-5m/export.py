"""Write a trained checkpoint into this repository: the model in the Hub's layout (fp16), its held-out rows, goldens and accuracy.

Usage: python export.py OUT_DIR/checkpoint.pt [ROWS_PER_TASK]     (needs torch, transformers, tokenizers)
OUT_DIR is where train.py wrote. Prints the rows of the table in the model's README.
"""

import csv
import json
import shutil
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import OPTForCausalLM

from tasks import TASKS, Gen, prompt
from train import CONFIG

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = REPOSITORY / "models" / "tidy-opt-5m"
TABLE = REPOSITORY / "examples" / "data" / "messy.csv"
GOLDEN = REPOSITORY / "test" / "fixtures" / "tidy-opt-5m" / "golden.json"

EOS = 2
MAX_NEW_TOKENS = 72
SPECIAL_TOKENS = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
# What the published OPT checkpoints have in this file, in their order.
CONFIG_KEYS = """
vocab_size hidden_size ffn_dim num_hidden_layers num_attention_heads max_position_embeddings word_embed_proj_dim dropout
attention_dropout layerdrop activation_function do_layer_norm_before pad_token_id bos_token_id eos_token_id
""".split()


def write_json(name, value):
    (MODEL / name).write_text(json.dumps(value, indent=2))


def write_model(model, source):
    MODEL.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(MODEL)
    config = json.loads((MODEL / "config.json").read_text())
    write_json(
        "config.json",
        {
            "architectures": ["OPTForCausalLM"],
            "model_type": "opt",
            **{key: config[key] for key in CONFIG_KEYS},
            "enable_bias": True,
            "layer_norm_elementwise_affine": True,
            "init_std": 0.02,
            "prefix": "</s>",
            "torch_dtype": "float16",
            "use_cache": True,
        },
    )
    ids = {"bos_token_id": EOS, "eos_token_id": EOS, "pad_token_id": 1}
    write_json("generation_config.json", {**ids, "max_new_tokens": MAX_NEW_TOKENS, "do_sample": False})
    tokenizer = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "add_prefix_space": False, "errors": "replace"}
    write_json("tokenizer_config.json", {**SPECIAL_TOKENS, **tokenizer, "model_max_length": 512})
    write_json("special_tokens_map.json", SPECIAL_TOKENS)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(source / name, MODEL)


@torch.no_grad()
def generate(model, ids):
    """Greedy ids, the end token included, and their log-probabilities."""
    x, past, generated, logprobs = torch.tensor([ids]), None, [], []
    while len(generated) < MAX_NEW_TOKENS and EOS not in generated:
        result = model(input_ids=x, past_key_values=past, use_cache=True)
        past = result.past_key_values
        scores = torch.log_softmax(result.logits[0, -1], -1)
        token = int(scores.argmax())
        generated.append(token)
        logprobs.append(float(scores[token]))
        x = torch.tensor([[token]])
    return generated, logprobs


def labelled_rows(seed, held, count):
    """`count` different rows of each task as (task, input, expected)."""
    for task in TASKS:
        generator, seen = Gen(f"{seed}-{task}", held), set()
        while len(seen) < count:
            text, expected = getattr(generator, task)()
            if text not in seen:
                seen.add(text)
                yield task, text, expected


def write_table(rows, file):
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(["id", "task", "instruction", "input", "expected"])
    for number, (task, text, expected) in enumerate(rows, 1):
        writer.writerow([number, task, TASKS[task], text, expected])


def answer_rows(model, tokenizer, rows):
    for task, text, expected in rows:
        ids = [EOS] + tokenizer.encode(prompt(task, text), add_special_tokens=False).ids
        greedy, logprobs = generate(model, ids)
        yield {
            "prompt": prompt(task, text),
            "ids": ids,
            "greedy": greedy,
            "logprobs": [float(f"{x:.6g}") for x in logprobs],
            "answer": tokenizer.decode([token for token in greedy if token != EOS]).strip(),
            "expected": expected,
        }


def main(checkpoint, count):
    torch.set_num_threads(2)
    model = OPTForCausalLM(CONFIG)
    model.load_state_dict(torch.load(checkpoint, weights_only=True, map_location="cpu")["model"])
    model.tie_weights()
    write_model(model, checkpoint.parent)
    # The goldens are those of the fp16 weights, widened.
    model.float().eval()
    tokenizer = Tokenizer.from_file(str(checkpoint.parent / "tokenizer.json"))
    right = {task: [] for task in TASKS}
    for seed, held in ((4242, True), (4243, False)):
        rows = list(labelled_rows(seed, held, count))
        golden = list(answer_rows(model, tokenizer, rows))
        for task in TASKS:
            right[task].append(sum(g["answer"] == g["expected"] for g, row in zip(golden, rows) if row[0] == task))
        if held:
            with open(TABLE, "w", newline="", encoding="utf-8") as file:
                write_table(rows, file)
            GOLDEN.write_text(json.dumps(golden, ensure_ascii=False), encoding="utf-8")
    for task, (held_out, known_names) in right.items():
        print(f"| {task} | {TASKS[task]} | {held_out} / {count} | {known_names} / {count} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 40)
