# Marconi (arXiv 2411.19379): from conversations to the paper's figures.
#
#   snakemake --cores all             everything of workflow/config/default.yaml
#   snakemake --cores all fig7        one figure; see the targets below
#   snakemake --cores all live        live servers: measured on a GPU if there is one, else as recorded
#   snakemake --cores all forecast    the same servers under the same load, simulated, without a GPU (minutes)
#   snakemake --cores all server_sim  a server with two pools, simulated under every policy (minutes)
#   snakemake --cores all smoke       the whole chain on tiny random data, offline
from snakemake.utils import min_version

min_version("9.20")


# A --configfile replaces the default one; Snakemake alone would mix the data sets of both.
if not workflow.overwrite_configfiles:

    configfile: "workflow/config/default.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


pathvars:
    results=STUDY.results_dir,
    data=STUDY.data_dir,
    logs=f"{STUDY.results_dir}/logs",
    benchmarks=f"{STUDY.results_dir}/benchmarks",


include: "workflow/rules/retrieve.smk"
include: "workflow/rules/traces.smk"
include: "workflow/rules/simulate.smk"
include: "workflow/rules/formulas.smk"
include: "workflow/rules/experiments.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/checks.smk"
include: "workflow/rules/server_build.smk"


if STUDY.server:

    include: "workflow/rules/server.smk"


if STUDY.live:

    include: "workflow/rules/live_common.smk"
    include: "workflow/rules/live.smk"
    include: "workflow/rules/live_results.smk"
    include: "workflow/rules/forecast.smk"


rule all:
    default_target: True
    input:
        rules.fig7.output,
        rules.fig8.output,
        rules.fig9.input,
        rules.fig3b.output,
        rules.fig5.output,
        rules.fig14.output,
        rules.table1.output,
        rules.policies.output,
        rules.alpha.output if "oracle" in STUDY.policies else [],
        figures_of_experiments,
        rules.describe.input,
        rules.claims.output,
        live_results if STUDY.live else [],
