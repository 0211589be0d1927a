# Marconi (arXiv 2411.19379): from conversations to the paper's figures.
#
#   snakemake --cores all             everything of workflow/config/default.yaml
#   snakemake --cores all fig7        one figure; see the targets below
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
include: "workflow/rules/figures.smk"
include: "workflow/rules/checks.smk"


rule all:
    default_target: True
    input:
        rules.fig7.output,
        rules.fig8.output,
        rules.fig9.input,
        rules.describe.input,
        rules.claims.output,
