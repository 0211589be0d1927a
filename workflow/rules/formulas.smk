# Figures and tables that follow from the paper's formulas alone.


rule fig3b:
    output:
        svg=report(
            "<results>/figures/fig3b.svg",
            caption="../report/fig3b.rst",
            category="Figures",
            labels={"figure": "3b", "shows": "cache of one sequence"},
        ),
        pdf="<results>/figures/fig3b.pdf",
        csv="<results>/figures/fig3b.csv",
    log:
        "<logs>/fig3b.log",
    group:
        "figures"
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=1000,
        runtime=2,
    params:
        code=code_digest(*FIGURE_CODE),
    message:
        "Drawing Figure 3b."
    script:
        "../scripts/formula_figure.py"


use rule fig3b as fig5 with:
    output:
        svg=report(
            "<results>/figures/fig5.svg",
            caption="../report/fig5.rst",
            category="Figures",
            labels={"figure": "5", "shows": "FLOPs saved per byte"},
        ),
        pdf="<results>/figures/fig5.pdf",
        csv="<results>/figures/fig5.csv",
    log:
        "<logs>/fig5.log",
    message:
        "Drawing Figure 5."


use rule fig3b as fig14 with:
    output:
        svg=report(
            "<results>/figures/fig14.svg",
            caption="../report/fig14.rst",
            category="Figures",
            labels={"figure": "14", "shows": "FLOPs by kind of layer"},
        ),
        pdf="<results>/figures/fig14.pdf",
        csv="<results>/figures/fig14.csv",
    log:
        "<logs>/fig14.log",
    message:
        "Drawing Figure 14."


rule table1:
    output:
        csv="<results>/tables/table1.csv",
        html=report(
            "<results>/tables/table1.html",
            caption="../report/table1.rst",
            category="Figures",
            labels={"figure": "Table 1", "shows": "FLOPs and bytes of a layer"},
        ),
    log:
        "<logs>/table1.log",
    group:
        "figures"
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=1000,
        runtime=2,
    params:
        code=code_digest(*FIGURE_CODE),
    message:
        "Computing Table 1."
    script:
        "../scripts/table1.py"
