"""What a shell offers behind `var-exp`, asked as a shell asks."""

import os
import subprocess
import sys

import pytest

from var_exp.completion import candidates, main
from var_exp.conf_files import aliases
from var_exp.figures import FIGURES
from var_exp.parsers import KINDS, PARSERS


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("var-exp ev", ["evaluate"]),
        ("var-exp evaluate method=gb", ["method=gbp"]),
        ("var-exp evaluate method=ig method.st", ["method.steps="]),
        ("var-exp evaluate -m method=gbp,gradcam_p", ["method=gbp,gradcam_plus_plus"]),
        ("var-exp evaluate metric=[road,aop", ["metric=[road,aopc"]),
        ("var-exp evaluate data.root=a\\ b layo", ["layout.", "layout="]),
        ("var-exp evaluate data=fol", ["data=folder"]),
        ("var-exp evaluate data=folder data.on", ["data.on_error="]),
        ("var-exp evaluate hydra/l", ["hydra/launcher="]),
        ("var-exp evaluate --m", ["--multirun"]),
        ("var-exp train recipe=fi", ["recipe=finetune"]),
        ("var-exp explain cat.jpg --method gu", ["guided_gradcam"]),
        ("var-exp explain cat.jpg tabby --re", ["--refine"]),
        ("var-exp explain cat.jpg --refine ", aliases("refine")),
        ("var-exp explain cat.jpg --model vit_b16 --check", ["--checkpoint"]),
        ("var-exp figures c", ["classes", "curves", "cutout"]),
        ("var-exp figures grid --sa", ["--samples"]),
        ("var-exp sweep runs --o", ["--out"]),
        ("var-exp support model=vgg", ["model=vgg16"]),
        ("var-exp support model=vgg16 --methods gbp gradient_", ["gradient_shap"]),
        # files are the shell's to offer
        ("var-exp explain ca", []),
        ("var-exp figures grid ru", []),
        ("var-exp evaluate data.root=ph", []),
        # nothing to offer, and no traceback
        ("var-exp evaluate method=nosuch method.st", []),
        ("var-exp evaluate 'classes.names=[tab", []),
        ("var-exp nosuch a", []),
        ("var-exp evaluate nosuch.st", []),
    ],
)
def test_words(line, offered):
    assert candidates(line) == offered


def test_commands_and_groups_are_all_offered():
    assert set(candidates("var-exp ")) >= {"evaluate", "train", *PARSERS}
    assert {f"method={alias}" for alias in aliases("method")} <= set(
        candidates("var-exp evaluate method=")
    )
    groups = {word for word in candidates("var-exp evaluate ") if word.endswith("=")}
    assert {"model=", "method=", "refine=", "metric=", "data=", "seed=", "dry_run="} <= groups


def test_figures_are_those_that_are_drawn():
    assert tuple(FIGURES) == KINDS


def test_bash_completes(tmp_path):
    """The script in a bash, with what bash itself says of the line; the command on the path."""
    program = tmp_path / "var-exp"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m var_exp "$@"\n')
    program.chmod(0o755)
    script = """
        eval "$(var-exp --shell-completion install=bash)"
        complete -p var-exp
        ask() {  # the line, then the word that bash would replace
            COMP_LINE="$1"; COMP_POINT=${#1}; COMPREPLY=()
            _var_exp_completion
            printf '<%s>' "${COMPREPLY[@]}"; echo
        }
        ask 'var-exp evaluate method=gb'
        ask 'var-exp evaluate meth'
        ask 'var-exp explain cat.jpg --method lay'
        ask 'var-exp evaluate method=gb and more'
        COMP_WORDBREAKS=' '
        ask 'var-exp evaluate method=gb'
    """
    done = subprocess.run(
        ["bash", "-c", script],
        env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    installed, *offered = done.stdout.splitlines()
    assert "-F _var_exp_completion var-exp" in installed
    # bash replaces what follows the sign, unless that no longer breaks words
    assert offered == ["<gbp >", "<method.><method=>", "<layercam >", "<>", "<method=gbp >"]


def test_a_query_imports_nothing_heavy():
    code = (
        "import sys; from var_exp.completion import candidates\n"
        "assert candidates('var-exp evaluate method=gb') == ['method=gbp']\n"
        "assert candidates('var-exp figures grid --sh') == ['--share']\n"
        "assert not {'torch', 'lightning', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("what", ["install=tcsh", "", "instal=bash"])
def test_another_shell_is_refused_in_a_sentence(capsys, what):
    assert main(what) == 2
    assert capsys.readouterr().err == (
        "error: --shell-completion takes install=SHELL, where SHELL is one of: bash, zsh, fish.\n"
    )
