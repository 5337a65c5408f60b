"""What the page is made of, without the page: the tree of texts, the order in words, the calls."""

import json
import subprocess
import sys

import pytest
from serving import make_app, running
from web_engine import call, expose

from textwright.api import load
from textwright.run import Run
from textwright.run.about import about
from textwright.writing.sampling_options import explain, sampling_options

pytestmark = pytest.mark.browser

TEXT = {"id": 1, "parent": None, "place": 0, "run": "notes", "prompt": "The", "options": {}}
TEXT |= {"seed": "1", "name": "", "kept": False, "tokens": []}


@pytest.fixture(scope="module")
def page(browser):
    page = browser.new_page()
    expose(page, "tree.js", "Tree", "nameOf", "readTexts")
    expose(page, "order.js", "explainSteps", "explainEnd")
    expose(page, "calls.js", "makeCalls")
    expose(page, "sampling.js", "DEFAULTS", "checkOptions")
    page.evaluate(
        """() => {
            globalThis.madeOf = (words, parent = null) => ({
                run: "notes", prompt: "The", options: {}, seed: 2n ** 64n - 1n, parent,
                tokens: words.split(" ").map((word, id) => ({ id, text: ` ${word}` })),
            });
            globalThis.shape = (tree) =>
                tree.walk().map(({ text, depth }) => "-".repeat(depth) + nameOf(text));
            globalThis.grow = () => {
                const tree = new Tree();
                const soup = tree.add(madeOf("soup"));
                tree.add(madeOf("dish"));
                const hot = tree.add({ ...madeOf("hot soup", soup.id), place: 0 });
                tree.add({ ...madeOf("hot pan", hot.id), place: 1 });
                return tree;
            };
            globalThis.again = (tree) => readTexts(JSON.parse(JSON.stringify(tree)));
        }"""
    )
    return page


def test_branches_follow_what_they_branch_from(page):
    assert call(page, "() => shape(grow())") == ["The soup", "-hot soup", "--pan", "The dish"]


def test_each_change_of_the_tree_is_undone(page):
    shapes = call(
        page,
        """() => {
            const tree = grow();
            const [, , hot, pan] = tree.texts;
            const shapes = [shape(tree)];
            for (const work of [
                () => tree.rename(hot.id, "mine"),
                () => tree.keep(pan.id, true),
                () => tree.remove(hot.id),
                () => tree.add(madeOf("rice")),
            ]) {
                work();
                shapes.push(shape(tree));
            }
            const back = [];
            while (tree.canUndo) {
                back.push(shape(tree));
                tree.undo();
            }
            tree.undo(); // nothing is left to undo
            return [shapes, back, shape(tree)];
        }""",
    )
    there, back, begun = shapes
    assert there[1] == ["The soup", "-mine", "--pan", "The dish"]
    assert there[3] == ["The soup", "-hot pan", "The dish"]  # the pan is kept
    written = "The rice"  # which no undo takes away
    assert back == [there[4], [*there[2], written], [*there[1], written]]
    assert begun == [*there[0], written]


def test_kept_texts_are_left_when_the_others_are_deleted(page):
    assert call(
        page,
        """() => {
            const tree = grow();
            const [soup, , , pan] = tree.texts;
            for (const { id } of [soup, pan]) tree.keep(id, true);
            tree.removeOthers();
            const both = shape(tree); // all that the other lacks of the soup is its own now
            tree.keep(soup.id, false);
            tree.removeOthers();
            return [...both, ...shape(tree)];
        }""",
    ) == ["The soup", "-hot pan", "The hot pan"]


def test_other_choices_at_one_token_stand_beside_each_other(page):
    assert call(
        page,
        """() => {
            const tree = new Tree();
            const { id } = tree.add(madeOf("hot soup now"));
            const cold = tree.add({ ...madeOf("hot rice now", id), place: 1 });
            tree.add({ ...madeOf("hot pan now", cold.id), place: 1 }); // where the rice was chosen
            tree.add({ ...madeOf("hot rice then", cold.id), place: 2 }); // after it
            tree.add({ ...madeOf("cold rice now", cold.id), place: 0 }); // before it
            return shape(tree);
        }""",
    ) == ["The hot soup now", "-rice now", "--then", "-pan now", "-cold rice now"]


def test_what_is_kept_stays_where_it_branched_from_is_deleted(page):
    assert call(
        page,
        """() => {
            const tree = grow();
            const [, , hot, pan] = tree.texts;
            tree.keep(pan.id, true);
            tree.remove(hot.id);
            return [shape(tree), tree.get(pan.id).place];
        }""",
    ) == [["The soup", "-hot pan", "The dish"], 0]


def test_the_same_request_finds_what_it_has_written(page):
    assert call(
        page,
        """() => {
            const tree = new Tree();
            const options = { top_k: 3 };
            const request = { run: "notes", prompt: "The", fields: null, options, seed: 7n };
            const begun = tree.add({ ...request, begin: [], tokens: [{ id: 4, text: " soup" }] });
            const unfinished = tree.written({ ...request, begin: [] });
            tree.goOn(begun.id, { top_k: 3 }, [{ id: 4, text: " soup", finish_reason: "stop" }]);
            const others = [{ seed: 8n }, { options: {} }, { begin: [4] }, { prompt: "A" }];
            return [
                unfinished,
                tree.written({ ...request, begin: [] }).id === begun.id,
                others.map((other) => tree.written({ ...request, begin: [], ...other })),
            ];
        }""",
    ) == [None, True, [None] * 4]


def test_saved_texts_are_read_again_beside_others(page):
    same, both, seed, readable = call(
        page,
        """() => {
            const tree = grow();
            const document = JSON.parse(JSON.stringify(tree));
            const other = new Tree();
            other.take(document, "notes", "notes, 1");
            const same = JSON.stringify(shape(other)) === JSON.stringify(shape(tree));
            other.take({ ...document, identity: "notes, 1" }, "notes", "notes, 1");
            return [same, shape(other), String(other.texts[5].seed), tree.toText()];
        }""",
    )
    assert same
    assert both == ["The soup", "-hot soup", "--pan", "The dish"] * 2
    assert seed == str(2**64 - 1)
    assert "# pan\n\nThe hot pan\n" in readable


def test_a_temperature_that_json_has_no_number_for_is_kept(page):
    assert call(
        page,
        """() => {
            const tree = new Tree();
            tree.add({ ...madeOf("soup"), options: { temperature: Infinity } });
            return checkOptions(again(tree)[0].options).temperature === Infinity;
        }""",
    )


def test_a_text_whose_parent_is_gone_begins_anew(page):
    added, read = call(
        page,
        """() => {
            const tree = grow();
            const [soup] = tree.texts;
            tree.remove(soup.id);
            tree.add({ ...madeOf("cold soup", soup.id), place: 1 }); // it was waited for meanwhile
            const document = JSON.parse(JSON.stringify(grow()));
            document.texts.splice(0, 2);
            return [shape(tree), shape(new Tree(readTexts(document)))];
        }""",
    )
    assert added == ["The dish", "The cold soup"]
    assert read == ["The hot soup", "-pan"]


def test_a_large_tree_goes_on(page):
    assert (
        call(
            page,
            """() => {
            const text = (_, id) => ({ ...madeOf("soup"), id, parent: null });
            const tree = new Tree(Array.from({ length: 1300 }, text));
            for (let change = 0; change < 100; change++) tree.rename(7, `name ${change}`);
            tree.add(madeOf("dish"));
            return shape(tree).length;
        }""",
        )
        == 1301
    )


def test_what_another_window_changed_is_taken_over_and_not_undone(page):
    told = call(
        page,
        """() => {
            const here = grow();
            const [soup, dish, hot] = here.texts;
            const there = new Tree(again(here));
            const from = again(here);
            here.rename(dish.id, "mine");
            here.remove(hot.id);
            here.add(madeOf("rice"));
            there.remove(dish.id);
            there.rename(soup.id, "theirs");
            there.add({ ...madeOf("cold soup", soup.id), place: 0 });
            here.adopt(from, again(there));
            there.adopt(again(there), again(here));
            const shapes = [shape(there), shape(here)];
            for (let step = 0; step < 2; step++) {
                here.undo();
                shapes.push(shape(here));
            }
            return shapes;
        }""",
    )
    both = ["theirs", "-cold soup", "The rice"]
    assert told[:2] == [both, both]
    assert told[2] == ["theirs", "-hot soup", "--pan", "-cold soup", "The rice"]
    assert told[3] == told[2]  # the dish was deleted there


@pytest.mark.parametrize(
    "document",
    [
        *(None, {}, {"format": "other", "texts": []}),
        {"format": "textwright texts 1", "texts": [{}]},
        {"format": "textwright texts 1", "texts": [TEXT, TEXT]},
        {"format": "textwright texts 1", "texts": [{**TEXT, "options": None}]},
        {"format": "textwright texts 1", "texts": [{**TEXT, "run": "poems"}]},
        {"format": "textwright texts 1", "texts": [TEXT], "identity": "notes, 2"},
    ],
)
def test_what_holds_no_texts_is_refused_and_changes_nothing(page, document):
    told, shape = call(
        page,
        """document => {
            const tree = grow();
            try {
                tree.take(document, "notes", "notes, 1");
            } catch (error) {
                return [error.message, shape(tree)];
            }
        }""",
        document,
    )
    assert "This file" in told and len(shape) == 4


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.0, "stop": ["\n", "end"]},
        {"temperature": float("inf"), "top_k": 5, "forbid": [3], "logit_bias": {7: -2.5, 8: 1}},
        {"temperature": 0.7, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.8, "no_copy": 5},
        {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": -0.25},
        {"no_repeat_ngram": 3, "min_new_tokens": 4, "max_new_tokens": 9},
    ],
)
def test_the_order_in_force_is_told_as_in_python(page, options):
    told = {**options, "logit_bias": list(options.get("logit_bias", {}).items())}
    if options.get("temperature") == float("inf"):
        told["temperature"] = "Infinity"
    steps, end = call(
        page,
        """given => {
            const options = { ...DEFAULTS, ...given };
            options.temperature = Number(options.temperature);
            return [explainSteps(options), explainEnd(options)];
        }""",
        told,
    )
    lines = [f"{number:2} {name}: {value}" for number, (name, value) in enumerate(steps, 1)]
    assert [*lines, f"   {end}"] == explain(sampling_options(**options))


OPTIONS = {
    "temperature": 0.8,
    "top_k": 20,
    "presence_penalty": 0.3,
    "min_new_tokens": 5,
    "max_new_tokens": 12,
    "stop": ["it's", "\n"],
}


@pytest.mark.parametrize(
    ("begun", "options"),
    [
        ({"prompt": "Don't stir"}, OPTIONS),
        ({"fields": {"course": "Soup", "note": 'Stir; don\'t "boil".'}}, {}),
        ({"fields": {}}, {}),
    ],
)
def test_each_call_writes_the_same_text(page, formed, begun, options, capsys, monkeypatch):
    writer, run = load(formed), about(Run.load(formed))
    with running(make_app(formed)) as address:
        calls = call(
            page,
            """([begun, options, run, address]) => makeCalls(
                { ...begun, options: { ...DEFAULTS, ...run.options, ...options }, seed: 7n },
                run,
                address,
            )""",
            [begun, options, run, address],
        )
        texts = {made["name"]: made["text"] for made in calls}
        if "fields" in begun:
            [values] = writer.fill(begun["fields"], seed=7, **options)
            stream = writer.generator.fill(
                writer.form(), begun["fields"], writer.options(**options), seed=7
            )
            [sample] = stream.samples()
            printed = f"{values}\n"
        else:
            [sample] = writer.generate(begun["prompt"], seed=7, **options)
            printed = f"{sample.text}\n"
        monkeypatch.chdir(formed.parent.parent)
        named = "runs/" + formed.name
        answer = subprocess.run(
            ["bash", "-c", texts["curl"]], capture_output=True, check=True, timeout=30
        )
        assert json.loads(answer.stdout)["choices"][0]["text"] == sample.text
        assert named in texts["Python"]
        for name, wanted in [("openai", f"{sample.text}\n"), ("Python", printed)]:
            code = texts[name].replace(named, str(formed))
            exec(compile(code, name, "exec"), {})
            assert capsys.readouterr().out == wanted, name
        line = texts["command line"].replace(named, str(formed))
        if begun.get("fields") == {}:
            assert line == "# The command line writes fields where one is given: give one."
            return
        line = line.replace("textwright", f"{sys.executable} -m textwright", 1) + " --json"
        told = subprocess.run(["bash", "-c", line], capture_output=True, check=True, timeout=60)
        [written] = json.loads(told.stdout)["samples"]
        assert written["text"] == sample.text


def test_no_call_is_told_that_would_write_another_text(page):
    lines = call(
        page,
        """([own, empty]) => [own, empty].map((stop) => {
            const run = { name: "my", options: { stop: own } };
            const request = { prompt: "The", options: { ...DEFAULTS, stop }, seed: 7n };
            return makeCalls(request, run, "").find(({ name }) => name === "command line").text;
        })""",
        [["\n"], []],
    )
    assert lines[0] == "textwright generate runs/my \\\n  --prompt The \\\n  --seed 7"
    assert lines[1].startswith("# The command line cannot")
