// The look of the report: one inline style sheet, light and dark, wide and narrow, on paper too.

export const STYLE = `
:root{--bg:#f7f8f8;--card:#fff;--text:#16191d;--dim:#59616b;--line:#dfe3e6;--good:#11693d;
--good-bg:#dff3e6;--bad:#a31515;--bad-bg:#fde4e1;--code:#eef0f2}
@media (prefers-color-scheme:dark){:root{--bg:#111417;--card:#191d21;--text:#e8eaed;--dim:#9aa4af;
--line:#2b3137;--good:#7fd8a4;--good-bg:#143524;--bad:#ff9d94;--bad-bg:#43191a;--code:#23282d}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:2.5rem 1.25rem 4rem;background:var(--bg);color:var(--text);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.eyebrow{margin:0;color:var(--dim);font-size:.8rem;font-weight:600;letter-spacing:.09em;
text-transform:uppercase}
h1{margin:.3rem 0 .6rem;font-size:clamp(1.45rem,3.2vw,2.1rem);line-height:1.2;letter-spacing:-.015em;
text-wrap:balance}
h2{margin:0 0 .3rem;font-size:1.15rem}
.lead,section>p,footer{color:var(--dim);max-width:46rem}
section{margin-top:2.6rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.8rem;margin:1.8rem 0 0}
.tile{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--good);
border-radius:8px;padding:.8rem 1rem}
.tile.bad{border-left-color:var(--bad)}
.tile dt{color:var(--dim);font-size:.82rem}
.tile dd{margin:0;font-size:1.6rem;font-weight:650;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:8px}
table{width:100%;border-collapse:collapse;font-size:.92rem}
th,td{padding:.6rem .8rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
tr:last-child td{border-bottom:0}
th{color:var(--dim);font-size:.76rem;font-weight:600;letter-spacing:.03em;white-space:nowrap}
td:nth-child(4){white-space:nowrap;font-variant-numeric:tabular-nums}
td small{display:block;margin-top:.15rem;color:var(--dim);overflow-wrap:anywhere}
td small.fault{color:var(--bad);font-weight:600}
strong{font-weight:600}
code{padding:.08em .35em;border-radius:4px;background:var(--code);font:.86em ui-monospace,SFMono-Regular,
Menlo,Consolas,monospace;overflow-wrap:anywhere}
.badge{display:inline-block;padding:.1em .6em;border-radius:99px;background:var(--good-bg);
color:var(--good);font-size:.82rem;font-weight:650;white-space:nowrap}
.badge.bad{background:var(--bad-bg);color:var(--bad)}
blockquote{margin:.8rem 0 0;padding:.7rem 1rem;border-left:4px solid var(--line);background:var(--card);
overflow-wrap:anywhere}
.sources{display:grid;grid-template-columns:minmax(8rem,16rem) 1fr;gap:.5rem 1.2rem;margin:.8rem 0 0}
.sources dt{font-weight:600}
.sources dd{margin:0;color:var(--dim);overflow-wrap:anywhere}
footer{margin-top:3rem;font-size:.88rem}
@media (max-width:48rem){
thead{display:none}
tr{display:block;padding:.4rem 0;border-bottom:1px solid var(--line)}
td{display:block;padding:.25rem .9rem;border:0}
td::before{content:attr(data-name) " ";color:var(--dim);font-size:.76rem}
td:nth-child(-n+2)::before{content:none}
.sources{grid-template-columns:1fr;gap:.1rem}
.sources dd{margin-bottom:.6rem}
}
@media print{body{background:#fff;max-width:none}.scroll{overflow:visible}tr{break-inside:avoid}}
`;
