// "--name value" options with defaults; unknown ones end the program with a sentence.

export class UsageError extends Error {}

// spec: {name: {default, list?, flag?, text?}}; numbers unless `text`.
export function parseOptions(argv, spec) {
    const out = Object.fromEntries(Object.entries(spec).map(([name, s]) => [name, s.default]));
    for (let i = 0; i < argv.length; i++) {
        const name = argv[i].replace(/^--?/, "");
        const s = argv[i].startsWith("-") && Object.hasOwn(spec, name) ? spec[name] : null;
        if (!s) {
            const known = Object.keys(spec).map((n) => "--" + n).join(" ");
            throw new UsageError(`there is no option ${argv[i]}; known: ${known}`);
        }
        if (s.flag) {
            out[name] = true;
            continue;
        }
        if (i + 1 >= argv.length) {
            throw new UsageError(`--${name} needs a value`);
        }
        out[name] = s.text ? argv[++i] : numbers(name, argv[++i], s.list);
    }
    return out;
}

function numbers(name, text, list) {
    const values = text.split(",").map((t) => (/^\d+$/.test(t) ? Number(t) : NaN));
    if (values.some(Number.isNaN) || (!list && values.length > 1)) {
        throw new UsageError(`--${name} takes ${list ? "whole numbers with commas" : "a whole number"}, not "${text}"`);
    }
    return list ? values : values[0];
}

export function run(main) {
    main().catch((e) => {
        console.error(e instanceof UsageError ? e.message : `failed: ${e.message}`);
        process.exitCode = e instanceof UsageError ? 2 : 1;
    });
}
