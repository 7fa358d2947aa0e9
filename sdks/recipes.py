"""How each SDK is generated, compiled and run. The commands run in a folder with `openapi.yaml`."""

from dataclasses import dataclass

# The steps of each journey. When one is done, the journey prints its name after a dash.
STEPS = (
    "register",
    "sign in",
    "publish",
    "unknown members",
    "pages",
    "If-Match",
    "like",
    "follow",
    "viewer",
    "refresh",
    "conflict",
    "invalid input",
)
JACKSON = '"$(python -c "import openapi_generator_cli as cli; print(cli.__path__[0])")/openapi-generator.jar"'


@dataclass(frozen=True)
class Recipe:
    """One SDK: the folder of its journey, and its commands, for a shell."""

    name: str
    language: str
    generator: str
    folder: str
    generate: str
    compile: str
    journey: str
    needs: tuple[str, ...] = ()
    install: str = ":"

    @property
    def page(self) -> str:
        """The page in `docs/sdks`."""
        return f"{self.folder}.md"


COMPILE = (
    "tsc --strict --noUncheckedIndexedAccess --noEmit --target es2022 --module esnext "
    "--moduleResolution bundler --types node {}.ts"
)
NPM_INSTALL = (
    "cmp -s package-lock.json node_modules/installed.json || { "
    "npm ci --ignore-scripts --no-audit --no-fund && cp package-lock.json node_modules/installed.json; }"
)
RUN = (
    "esbuild {0}.ts --bundle --platform=node --format=esm --log-level=warning --outfile={0}.mjs && "
    "node {0}.mjs"
)

RECIPES = (
    Recipe(
        name="openapi-fetch",
        language="TypeScript",
        generator="openapi-typescript 7.13.0, openapi-fetch 0.17.0",
        folder="typescript",
        needs=("npm",),
        install=NPM_INSTALL,
        generate="npx openapi-typescript openapi.yaml --output schema.ts",
        compile=COMPILE.format("openapi_fetch"),
        journey=RUN.format("openapi_fetch"),
    ),
    Recipe(
        name="hey-api",
        language="TypeScript",
        generator="@hey-api/openapi-ts 0.95.0",
        folder="typescript",
        needs=("npm",),
        install=NPM_INSTALL,
        generate="npx openapi-ts --input openapi.yaml --output microblog",
        compile=COMPILE.format("hey_api"),
        journey=RUN.format("hey_api"),
    ),
    Recipe(
        name="python",
        language="Python",
        generator="openapi-python-client 0.29.1",
        folder="python",
        generate="""\
openapi-python-client generate --path openapi.yaml --meta none --output-path microblog_client""",
        compile="mypy --strict journey.py microblog_client",
        journey="python journey.py",
    ),
    Recipe(
        name="go",
        language="Go",
        generator="openapi-generator 7.26.0",
        folder="go",
        needs=("java",),
        generate="""\
openapi-generator-cli generate --input-spec openapi.yaml --output microblog \\
  --generator-name go \\
  --additional-properties packageName=microblog,withGoMod=false \\
  --global-property apiDocs=false,modelDocs=false,apiTests=false,modelTests=false""",
        compile="go vet ./... && go build -o journey .",
        journey="./journey",
    ),
    Recipe(
        name="java",
        language="Java",
        generator="openapi-generator 7.26.0",
        folder="java",
        needs=("java", "javac"),
        generate="""\
openapi-generator-cli generate --input-spec openapi.yaml --output microblog \\
  --generator-name java --library native --template-dir templates \\
  --additional-properties invokerPackage=microblog,apiPackage=microblog.api,modelPackage=microblog.model \\
  --additional-properties openApiNullable=false \\
  --global-property apiDocs=false,modelDocs=false,apiTests=false,modelTests=false""",
        compile=f"javac -d classes -cp {JACKSON} $(find microblog/src/main/java -name '*.java') Journey.java",
        journey=f"java -cp classes:{JACKSON} Journey",
    ),
)
